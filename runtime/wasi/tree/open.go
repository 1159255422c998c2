package tree

import (
	"errors"

	"golang.org/x/sys/unix"
)

// fileMode is the mode of new files before the process's umask.
const fileMode = 0o666

// openTries bounds how often an open is repeated because the object was exchanged between the look
// at it and the open.
const openTries = 8

// OpenOptions say how to open.
type OpenOptions struct {
	Follow    bool // a last symbolic link is followed
	Create    bool
	Exclusive bool
	Truncate  bool
	Directory bool // fail with ENOTDIR unless it is one
	Read      bool
	Write     bool
}

// Node is what Open found: a directory, or a descriptor of something else. The caller closes it.
type Node struct {
	Dir  *Dir // nil unless it is a directory
	FD   int  // the descriptor; Dir's own for a directory
	Stat unix.Stat_t
}

// Open opens a regular file, a directory, a FIFO or a harmless device. It never blocks: FIFOs are opened
// with O_NONBLOCK, and devices are looked at before they are opened, since for some the opening alone
// has an effect.
func (d *Dir) Open(path string, o OpenOptions) (*Node, error) {
	if o.Directory && (o.Create || o.Truncate) {
		return nil, unix.EINVAL
	}
	nofollow := 0
	if !o.Follow {
		nofollow = unix.O_NOFOLLOW
	}
	for range openTries {
		if o.Create && o.Exclusive {
			node, err := d.create(path, o, nofollow)
			if errors.Is(err, errExchanged) {
				err = unix.EEXIST
			}
			return node, err
		}
		look := unix.O_PATH | nofollow
		if o.Directory {
			look |= unix.O_DIRECTORY
		}
		fd, err := d.resolve(path, look, 0)
		if errors.Is(err, unix.ENOENT) && o.Create {
			node, err := d.create(path, o, nofollow)
			if errors.Is(err, errExchanged) {
				continue
			}
			return node, err
		}
		if err != nil {
			return nil, err
		}
		node, err := d.openFound(fd, path, o, nofollow)
		if !errors.Is(err, errExchanged) {
			return node, err
		}
	}
	return nil, unix.EBUSY
}

// errExchanged asks Open to look again.
var errExchanged = errors.New("exchanged while it was opened")

// openFound opens what an O_PATH descriptor stands for, and closes that.
func (d *Dir) openFound(look int, path string, o OpenOptions, nofollow int) (*Node, error) {
	var st unix.Stat_t
	err := unix.Fstat(look, &st)
	if err == nil {
		err = mayOpen(look, &st, o)
	}
	if err != nil {
		shut(look)
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		defer shut(look)
		return d.openDir(look, path, o, st)
	}
	inProc, err := kindOf(look, &st)
	shut(look)
	if err != nil {
		return nil, err
	}
	if d.tree.readOnly && (o.Write || o.Truncate) {
		return nil, unix.EROFS
	}
	var fd int
	if inProc == process {
		fd, err = d.openProc(path, &st)
	} else {
		fd, err = d.resolve(path, o.flags()|nofollow, 0)
	}
	if err != nil {
		return nil, err
	}
	return admit(fd, &st, o)
}

func (d *Dir) openDir(look int, path string, o OpenOptions, st unix.Stat_t) (*Node, error) {
	if o.Create || o.Truncate || o.Write {
		return nil, unix.EISDIR
	}
	fd, err := reopen(look)
	if err != nil {
		return nil, err
	}
	where := path
	if !d.top {
		where = d.path + "/" + path
	}
	if len(where) > pathMax {
		where = "" // too long to be found again
	}
	return &Node{Dir: &Dir{tree: d.tree, fd: fd, path: where}, FD: fd, Stat: st}, nil
}

func (d *Dir) create(path string, o OpenOptions, nofollow int) (*Node, error) {
	if d.tree.readOnly {
		return nil, unix.EROFS
	}
	flags := o.flags() | nofollow | unix.O_CREAT
	if o.Exclusive {
		flags |= unix.O_EXCL
	}
	fd, err := d.resolve(path, flags, fileMode)
	if err != nil {
		return nil, err
	}
	return admit(fd, nil, o)
}

// admit looks at an open file once more: between the look and the open it may have been exchanged for
// something that must not be opened.
func admit(fd int, looked *unix.Stat_t, o OpenOptions) (*Node, error) {
	n := &Node{FD: fd}
	err := unix.Fstat(fd, &n.Stat)
	if err == nil && (looked == nil || looked.Dev != n.Stat.Dev || looked.Ino != n.Stat.Ino) {
		if n.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
			err = errExchanged
		} else if k, e := kindOf(fd, &n.Stat); e != nil || k != ordinary {
			err = errExchanged
		}
	}
	if err == nil && o.Truncate && n.Stat.Mode&unix.S_IFMT == unix.S_IFREG {
		if err = unix.Ftruncate(fd, 0); err == nil {
			n.Stat.Size = 0
		}
	}
	if err != nil {
		shut(fd)
		return nil, err
	}
	return n, nil
}

// flags leave O_TRUNC out: the object must be looked at first. O_NONBLOCK keeps FIFOs from blocking and
// means nothing to regular files.
func (o OpenOptions) flags() int {
	flags := unix.O_NONBLOCK | unix.O_NOCTTY
	switch write := o.Write || o.Truncate; {
	case write && o.Read:
		flags |= unix.O_RDWR
	case write:
		flags |= unix.O_WRONLY
	default:
		flags |= unix.O_RDONLY
	}
	return flags
}
