// Package sock is what WASI needs of Linux sockets, never blocking.
//
// Errors are bare unix.Errno values for the ABI to translate. A Socket belongs to one goroutine at a time.
package sock

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is one socket.
type Socket struct {
	fd     int
	family int
	kind   int
	listen bool
}

// Open makes a new socket; family is unix.AF_*, kind unix.SOCK_STREAM or SOCK_DGRAM.
func Open(family, kind int) (*Socket, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &Socket{fd: fd, family: family, kind: kind}
	s.tune()
	return s, nil
}

// Adopt takes over a descriptor of a socket of any mode, which it leaves as it is: the description
// may be shared. All calls but Accept and Connect pass MSG_DONTWAIT.
func Adopt(fd int) (*Socket, error) {
	s := &Socket{fd: fd}
	var err error
	if s.family, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, err
	}
	if s.kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return nil, err
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	s.listen = err == nil && listening == 1
	return s, nil
}

// AdoptListener duplicates a listening socket and makes it non-blocking (for all who share it: an
// accept cannot be told otherwise). The caller keeps file.
func AdoptListener(file *os.File) (*Socket, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", file.Name(), err)
	}
	var s *Socket
	var failed error
	err = conn.Control(func(fd uintptr) {
		var own int
		if own, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); failed != nil {
			return
		}
		if s, failed = Adopt(own); failed == nil {
			failed = unix.SetNonblock(own, true)
		}
		if failed == nil && !s.listen {
			failed = unix.EINVAL
		}
		if failed != nil {
			_ = unix.Close(own)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w (needs a bound socket that listens)", file.Name(), err)
	}
	return s, nil
}

// FD is the descriptor, owned by the Socket.
func (s *Socket) FD() int { return s.fd }

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Stream reports whether the socket is of a connection-oriented kind.
func (s *Socket) Stream() bool { return s.kind == unix.SOCK_STREAM }

// Listening reports whether the socket accepts connections.
func (s *Socket) Listening() bool { return s.listen }

// Family is unix.AF_*.
func (s *Socket) Family() int { return s.family }

// Accept takes a connection, or returns EAGAIN.
func (s *Socket) Accept() (*Socket, error) {
	for {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			c := &Socket{fd: fd, family: s.family, kind: s.kind}
			c.tune()
			return c, nil
		case unix.EINTR, unix.ECONNABORTED:
			// The peer gave up while it was queued; the next one may be there.
		default:
			return nil, err
		}
	}
}

// tune sets what guests expect of a service's connections and mostly cannot set themselves.
func (s *Socket) tune() {
	if s.kind == unix.SOCK_STREAM && (s.family == unix.AF_INET || s.family == unix.AF_INET6) {
		// Not worth failing for.
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
}

// Bind gives the socket its address.
func (s *Socket) Bind(a unix.Sockaddr) error {
	if _, local := a.(*unix.SockaddrUnix); !local && s.kind == unix.SOCK_STREAM {
		// As Go and most servers do: a restart must not wait for old connections to time out.
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	return unix.Bind(s.fd, a)
}

// Listen makes the socket accept connections.
func (s *Socket) Listen(backlog int) error {
	if err := unix.Listen(s.fd, backlog); err != nil {
		return err
	}
	s.listen = true
	return nil
}

// Connect starts a connection: EINPROGRESS means that the socket becomes writable when it is decided,
// and Err then tells how.
func (s *Socket) Connect(a unix.Sockaddr) error {
	err := unix.Connect(s.fd, a)
	if err == unix.EINTR {
		return unix.EINPROGRESS
	}
	return err
}

// Err takes the socket's pending error.
func (s *Socket) Err() error {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

// Shutdown ends reading, writing or both (unix.SHUT_*).
func (s *Socket) Shutdown(how int) error { return unix.Shutdown(s.fd, how) }
