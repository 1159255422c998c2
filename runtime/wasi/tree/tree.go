// Package tree is a directory tree that nothing leads out of.
//
// Every look-up starts at a descriptor and is confined by the kernel: openat2 with RESOLVE_IN_ROOT or
// RESOLVE_BENEATH, never following magic links (kernel 5.6). Changes are made relative to the resolved
// parent, with calls that do not follow a last symbolic link. Without openat2 the same rules are
// kept by walking one component at a time.
//
// Errors are bare unix.Errno values, since the callers are ABIs that hand them to guests; ErrEscape is the
// one addition. A Tree and its directories are safe for concurrent use, apart from Close.
package tree

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrEscape refuses a path that leads out of the tree.
var ErrEscape = errors.New("path leads out of the tree")

// Options say how a tree is used.
type Options struct {
	// ReadOnly refuses every change with EROFS, whatever the file system would allow.
	ReadOnly bool
	// Root makes the tree's top what "/" means in symbolic links, as in a chroot. Otherwise an absolute
	// link leads out of the tree and is refused.
	Root bool
	// Only, if not empty, is the one file of the directory that the tree has, under the name ".": a file that is
	// mounted for itself, which cannot be removed or replaced. If it is a symbolic link it is not followed.
	Only string
}

// Tree is one confined tree.
type Tree struct {
	top      int
	readOnly bool
	root     bool
	only     string
}

// Open makes a tree of an open directory (O_PATH is enough), which it duplicates: the caller keeps dir.
func Open(dir *os.File, o Options) (*Tree, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("open tree: %s: %w", dir.Name(), err)
	}
	t := &Tree{top: -1, readOnly: o.ReadOnly, root: o.Root, only: o.Only}
	var st unix.Stat_t
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.Fstat(int(fd), &st); failed != nil {
			return
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			failed = unix.ENOTDIR
			return
		}
		t.top, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("open tree: %s: %w", dir.Name(), err)
	}
	return t, nil
}

// Close releases the tree; directories opened from it stay open, but lose absolute links and the like.
func (t *Tree) Close() error {
	if t.top < 0 {
		return nil
	}
	err := unix.Close(t.top)
	t.top = -1
	return err
}

// Top is the tree's uppermost directory.
func (t *Tree) Top() (*Dir, error) {
	open := reopen
	if t.only != "" {
		open = asPath // its other files are nobody's business
	}
	fd, err := open(t.top)
	if err != nil {
		return nil, err
	}
	return &Dir{tree: t, fd: fd, top: true}, nil
}

// Dir is an open directory of a tree.
type Dir struct {
	tree *Tree
	fd   int
	top  bool
	path string // how it was reached from the top; a hint, checked before use
}

// FD is the directory's descriptor, owned by the Dir.
func (d *Dir) FD() int { return d.fd }

// Close closes the directory.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// reopen turns an O_PATH directory into one that can be listed, if its permissions let us.
func reopen(fd int) (int, error) {
	dir, err := openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return asPath(fd)
	}
	return dir, err
}

func asPath(fd int) (int, error) {
	return openat(fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// shut closes a descriptor that nothing was written to: there is no error to be lost.
func shut(fd int) { _ = unix.Close(fd) }

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// noOpenat2 is set once the kernel (or a seccomp filter) has said that it has no openat2.
var noOpenat2 atomic.Bool
