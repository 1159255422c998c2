package wasi

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/tree"
)

// direntSize is preview1's `dirent`, which a name follows.
const direntSize = 24

// listBuffer is the scratch space that directory entries are read into.
const listBuffer = 16 << 10

// fdReaddir fills the guest's buffer to its last byte, cutting the last entry, unless the directory ends
// before: this is how a guest tells the end. The kernel's positions are the cookies.
func (s *System) fdReaddir(p []uint64) errno {
	d, e := s.dirWith(p[0], rightFdReaddir)
	if e != success {
		return e
	}
	b, ok := s.view(uint32(p[1]), uint32(p[2]))
	if !ok || !s.writable(uint32(p[4]), 4) {
		return eFault
	}
	if s.list == nil {
		s.list = make([]byte, listBuffer)
	}
	used := 0
	err := d.dir.List(p[3], s.list, func(entry tree.Entry) bool {
		var head [direntSize]byte
		le := binary.LittleEndian
		le.PutUint64(head[:], entry.Next)
		le.PutUint64(head[8:], entry.Ino)
		le.PutUint32(head[16:], uint32(len(entry.Name)))
		head[20] = byte(typeOfMode(uint32(entry.Type) << 12))
		if entry.Type == unix.DT_UNKNOWN {
			head[20] = byte(typeUnknown)
		}
		used += copy(b[used:], head[:])
		used += copy(b[used:], entry.Name)
		return used < len(b)
	})
	if err != nil {
		return errnoOf(err)
	}
	return s.putU32(uint32(p[4]), uint32(used))
}
