package wasi

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/sock"
	"github.com/hachi-run/hachi/runtime/wasi/stream"
	"github.com/hachi-run/hachi/runtime/wasi/tree"
)

// addStdio makes f the guest's descriptor number n.
func (s *System) addStdio(n int, f *os.File) error {
	if f == nil {
		// Keep the number free of others: a guest writes to 1 and 2 without asking what they are.
		for len(s.table.slots) <= n {
			s.table.slots = append(s.table.slots, nil)
		}
		s.table.low = n + 1
		return nil
	}
	fd, err := duplicate(f)
	if err != nil {
		return err
	}
	d, err := adopt(fd)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.place(d)
	return nil
}

func (s *System) addListener(f *os.File) error {
	l, err := sock.AdoptListener(f)
	if err != nil {
		return err
	}
	d := socketDescriptor(l)
	d.listener = true
	s.place(d)
	return nil
}

func (s *System) addPreopen(p Preopen) error {
	if p.Guest == "" || strings.IndexByte(p.Guest, 0) >= 0 {
		return errors.New("a name must not be empty or contain a NUL byte")
	}
	t, err := tree.Open(p.Dir, tree.Options{ReadOnly: p.ReadOnly, Root: p.Guest == "/", Only: p.Only})
	if err != nil {
		return err
	}
	s.trees = append(s.trees, t)
	dir, err := t.Top()
	if err != nil {
		return err
	}
	if p.Guest == "/" && isRoot(dir.FD()) {
		s.rootTree = t
	}
	s.place(&descriptor{
		kind: typeDirectory, base: rightsDir, inheriting: rightsDir | rightsFile,
		dir: dir, preopen: &p.Guest, readOnly: p.ReadOnly,
	})
	return nil
}

// isRoot reports whether a directory is what the process calls "/".
func isRoot(fd int) bool {
	var own, given unix.Stat_t
	return unix.Stat("/", &own) == nil && unix.Fstat(fd, &given) == nil && own.Dev == given.Dev && own.Ino == given.Ino
}

// place puts what the guest is given into the table, whatever the limit for what it opens itself.
func (s *System) place(d *descriptor) {
	s.table.limit = max(s.table.limit, s.table.count+1)
	_, _ = s.table.add(d) // cannot be full
}

// adopt makes a descriptor of a host descriptor of any type but a directory.
func adopt(fd int) (*descriptor, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	case unix.S_IFSOCK:
		c, err := sock.Adopt(fd)
		if err != nil {
			return nil, err
		}
		return socketDescriptor(c), nil
	}
	access, err := stream.Access(fd)
	if err != nil {
		return nil, err
	}
	d := fileDescriptor(fd, &st)
	switch access {
	case unix.O_RDONLY:
		d.base &^= rightFdWrite | rightFdAllocate | rightFdFilestatSetSize
	case unix.O_WRONLY:
		d.base &^= rightFdRead
	}
	return d, nil
}

func fileDescriptor(fd int, st *unix.Stat_t) *descriptor {
	d := &descriptor{kind: typeOfMode(st.Mode), base: rightsStream, file: stream.Open(fd, st.Mode)}
	if d.file.Seekable() {
		d.base = rightsFile
	}
	return d
}

func duplicate(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	var failed error
	err = conn.Control(func(raw uintptr) {
		fd, failed = unix.FcntlInt(raw, unix.F_DUPFD_CLOEXEC, 3)
	})
	return fd, errors.Join(err, failed)
}

// checkStrings refuses what the guest's C strings cannot hold.
func checkStrings(lists ...[]string) error {
	for _, list := range lists {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("new wasi system: argument or variable %q: contains a NUL byte", v)
			}
		}
	}
	return nil
}
