package tree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Stat describes what path names.
func (d *Dir) Stat(path string, follow bool) (unix.Stat_t, error) {
	var st unix.Stat_t
	flags := unix.O_PATH
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := d.resolve(path, flags, 0)
	if err != nil {
		return st, err
	}
	defer shut(fd)
	return st, unix.Fstat(fd, &st)
}

// Readlink reads a symbolic link into b and returns how many bytes it put there; a longer link is cut.
func (d *Dir) Readlink(path string, b []byte) (int, error) {
	dir, name, slash, err := d.parent(path)
	if err != nil {
		return 0, err
	}
	defer shut(dir)
	if err := mayEnter(dir, false); err != nil {
		return 0, err
	}
	if slash {
		return 0, unix.EINVAL
	}
	if len(b) == 0 {
		// Linux wants room for one byte, and the name still has to be a link.
		var one [1]byte
		_, err := unix.Readlinkat(dir, name, one[:])
		return 0, err
	}
	return unix.Readlinkat(dir, name, b)
}

// ReadOnly reports whether the tree refuses changes.
func (t *Tree) ReadOnly() bool { return t.readOnly }

// Plain checks that an absolute path without "..", seen from the tree's top, is a directory which can be
// reached without any symbolic link, and in which names may be used; change tells that one is to be made. It
// is for calls of the kernel that take a path and cannot be confined.
func (t *Tree) Plain(path string, change bool) error {
	here := t.top
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		next, err := openat(here, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if here != t.top {
			shut(here)
		}
		if err != nil {
			return err
		}
		here = next
	}
	err := mayEnter(here, change)
	if here != t.top {
		shut(here)
	}
	return err
}
