package runc

import (
	"net"
	"sync"
)

// only is a listener whose one connection is there already. It is closed when that is.
type only struct {
	conn   net.Conn
	once   sync.Once
	taken  bool
	closed chan struct{}
}

func newOnly(conn net.Conn) *only { return &only{conn: conn, closed: make(chan struct{})} }

// Accept returns the connection the first time, and then waits for its end, which is net.ErrClosed. One goroutine calls
// it.
func (l *only) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return ending{l.conn, l}, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *only) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *only) Addr() net.Addr { return l.conn.LocalAddr() }

// ending is the connection, whose end is the listener's.
type ending struct {
	net.Conn
	l *only
}

func (c ending) Close() error {
	defer c.l.Close()
	return c.Conn.Close()
}
