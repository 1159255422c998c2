package stdio

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal makes a pty. What comes from the client's fifo is copied to its master, and from there to out.
func (s *Streams) terminal(stdin string, out *os.File) error {
	if out != nil {
		var err error
		if s.screen, err = pollable(out); err != nil {
			return fmt.Errorf("open stdout: %w", err)
		}
	}
	keys, err := s.source(stdin)
	if err == nil && keys != nil {
		s.keys, err = pollable(keys)
	}
	if err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	master, slave, err := newPty()
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	s.console = master
	s.Stdin, s.Stdout, s.Stderr = slave, slave, slave
	if s.keys != nil {
		s.typing.Go(func() {
			_, _ = io.Copy(master, s.keys) // ends with the input, or when release closes either
		})
	}
	s.showing.Go(func() {
		var screen io.Writer = io.Discard
		if s.screen != nil {
			screen = s.screen
		}
		_, _ = io.Copy(screen, master) // EIO is a terminal's end of file
	})
	return nil
}

// pollable turns f into a file whose Close ends reads and writes that wait. f is not usable afterwards.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// newPty opens a pseudo terminal (pty(7)); the slave comes from the master itself (TIOCGPTPEER, Linux
// 4.13), so that the mount namespace's /dev/pts does not matter.
func newPty() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(fd)
		return nil, nil, errno
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), os.NewFile(peer, "/dev/pts"), nil
}
