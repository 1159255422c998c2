package sock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Int reads an option that is a number.
func (s *Socket) Int(level, name int) (int, error) { return unix.GetsockoptInt(s.fd, level, name) }

// SetInt sets an option that is a number.
func (s *Socket) SetInt(level, name, value int) error {
	return unix.SetsockoptInt(s.fd, level, name, value)
}

// Linger is how long a close waits for data to be sent; negative means that it does not.
func (s *Socket) Linger() (time.Duration, error) {
	l, err := unix.GetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		return 0, err
	}
	if l.Onoff == 0 {
		return -1, nil
	}
	return time.Duration(l.Linger) * time.Second, nil
}

// SetLinger lets a close drop what is not sent yet (0), or not (negative). Positive times are taken for
// negative ones: a close must not block, and the kernel goes on sending by itself.
func (s *Socket) SetLinger(d time.Duration) error {
	l := unix.Linger{}
	if d == 0 {
		l.Onoff = 1
	}
	return unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
}

// BindToDevice ties the socket to a network interface.
func (s *Socket) BindToDevice(name string) error { return unix.BindToDevice(s.fd, name) }
