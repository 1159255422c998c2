package main

import (
	"fmt"
	"io"
)

// archive writes a cpio archive in the newc format, which the kernel unpacks as its first root file system;
// Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	w     io.Writer
	inode int
	err   error // the first; later calls do nothing
}

const (
	modeFile = 0o100755
	modeDir  = 0o040755
	modeLink = 0o120777
)

func (a *archive) dir(name string) { a.entry(name, modeDir, nil) }

func (a *archive) file(name string, data []byte) { a.entry(name, modeFile, data) }

// link makes a symbolic link.
func (a *archive) link(name, target string) { a.entry(name, modeLink, []byte(target)) }

// close ends the archive, not the writer below.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode int, data []byte) {
	a.inode++
	const devices, checksum = 0, 0
	// Each field after the magic is eight hexadecimal digits: inode, mode, uid, gid, links, mtime, size, the device's
	// and the special file's numbers, the length of the name with its zero, checksum.
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), devices, devices, devices, devices, len(name)+1, checksum)
	a.padded([]byte(header + name + "\x00"))
	a.padded(data)
}

func (a *archive) padded(data []byte) {
	for _, part := range [][]byte{data, make([]byte, -len(data)&3)} {
		if a.err == nil {
			_, a.err = a.w.Write(part)
		}
	}
}
