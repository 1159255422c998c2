package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Entry is one name in a directory.
type Entry struct {
	Name []byte // valid during the call only
	Ino  uint64 // 0 for "..", which may lie outside of the tree
	Type uint8  // unix.DT_*
	Next uint64 // where the following entry starts
}

// List calls yield for each entry from position at (0 is the start, others are an Entry's Next) until
// yield returns false. buf is scratch space, at least 1 KiB.
func (d *Dir) List(at uint64, buf []byte, yield func(Entry) bool) error {
	if d.tree.only != "" {
		return unix.ENOTDIR
	}
	if _, err := unix.Seek(d.fd, int64(at), unix.SEEK_SET); err != nil {
		return listError(err)
	}
	for {
		n, err := unix.Getdents(d.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return listError(err)
		}
		for rest := buf[:n]; len(rest) > 0; {
			e, size := parseEntry(rest)
			if size == 0 {
				return unix.EIO
			}
			rest = rest[size:]
			if e.Type == unix.DT_UNKNOWN {
				e.Type = d.typeOf(string(e.Name))
			}
			if string(e.Name) == ".." {
				e.Ino = 0
			}
			if !yield(e) {
				return nil
			}
		}
	}
}

// listError names the reason: a directory that may be searched but not read is open as O_PATH only.
func listError(err error) error {
	if errors.Is(err, unix.EBADF) {
		return unix.EACCES
	}
	return err
}

// parseEntry reads one linux_dirent64; its size is 0 if it is cut off.
func parseEntry(b []byte) (Entry, int) {
	const header = int(unsafe.Offsetof(unix.Dirent{}.Name))
	if len(b) < header {
		return Entry{}, 0
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < header || size > len(b) {
		return Entry{}, 0
	}
	name := b[header:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return Entry{
		Name: name,
		Ino:  binary.NativeEndian.Uint64(b),
		Next: binary.NativeEndian.Uint64(b[8:]),
		Type: b[18],
	}, size
}

func (d *Dir) typeOf(name string) uint8 {
	var st unix.Stat_t
	if unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return unix.DT_UNKNOWN
	}
	return uint8(st.Mode & unix.S_IFMT >> 12)
}
