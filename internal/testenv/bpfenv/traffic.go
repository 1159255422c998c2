package bpfenv

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Pair connects a socket of the client's to a listener, and closes both at the test's end if the test did not.
func Pair(t testing.TB, client *Pod, l *net.TCPListener) (c, s *net.TCPConn) {
	t.Helper()
	c, s, err := pair(client, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

func pair(client *Pod, l *net.TCPListener) (c, s *net.TCPConn, err error) {
	conn, err := client.Dial("tcp", l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		return nil, nil, err
	}
	if err := l.SetDeadline(time.Now().Add(Timeout)); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	s, err = l.AcceptTCP()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.TCPConn), s, nil
}

// Exchange sends up bytes from client to server and then down bytes back.
func Exchange(t testing.TB, client, server net.Conn, up, down int) {
	t.Helper()
	if err := Swap(client, server, up, down); err != nil {
		t.Fatal(err)
	}
}

// Swap is Exchange for goroutines of the test's.
func Swap(client, server net.Conn, up, down int) error {
	return errors.Join(send(client, server, up), send(server, client, down))
}

// Talk is a whole connection: Pair, Exchange, CloseInOrder. It may be called by any goroutine, but by one at a time for
// a listener.
func Talk(client *Pod, l *net.TCPListener, up, down int) error {
	c, s, err := pair(client, l)
	if err != nil {
		return err
	}
	defer c.Close()
	defer s.Close()
	return errors.Join(Swap(c, s, up, down), closeInOrder(c, s))
}

func send(from, to net.Conn, n int) error {
	var both errgroup.Group
	both.Go(func() error {
		chunk := make([]byte, 64<<10)
		for left := n; left > 0; {
			m, err := from.Write(chunk[:min(left, len(chunk))])
			if err != nil {
				return fmt.Errorf("send %d bytes: %w", n, err)
			}
			left -= m
		}
		return nil
	})
	both.Go(func() error {
		if got, err := io.CopyN(io.Discard, to, int64(n)); err != nil {
			return fmt.Errorf("receive %d bytes, got %d: %w", n, got, err)
		}
		return nil
	})
	return both.Wait()
}

// CloseInOrder ends a connection so that every packet of it finds a socket: each side sends its FIN and sees the
// other's before it closes, the client first.
func CloseInOrder(t testing.TB, client, server *net.TCPConn) {
	t.Helper()
	if err := closeInOrder(client, server); err != nil {
		t.Fatal(err)
	}
}

func closeInOrder(client, server *net.TCPConn) error {
	if err := errors.Join(client.CloseWrite(), eof(server), server.CloseWrite(), eof(client)); err != nil {
		return fmt.Errorf("close in order: %w", err)
	}
	// The client's last ACK ends the server's side.
	for deadline := time.Now().Add(Timeout); ; time.Sleep(time.Millisecond) {
		info, err := tcpInfo(server)
		if err != nil {
			return fmt.Errorf("close in order: %w", err)
		}
		if info.State == unix.BPF_TCP_CLOSE {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("close in order: the server's side is in state %d and does not end", info.State)
		}
	}
	return errors.Join(client.Close(), server.Close())
}

func eof(c net.Conn) error {
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("read %d bytes (%v) where the end should be", n, err)
	}
	return nil
}

// TCPInfo is what the kernel says about a connection.
func TCPInfo(t testing.TB, c *net.TCPConn) *unix.TCPInfo {
	t.Helper()
	info, err := tcpInfo(c)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func tcpInfo(c *net.TCPConn) (info *unix.TCPInfo, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return info, errors.Join(cerr, err)
}

// Eventually waits until ok, and fails the test if that takes too long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Timeout); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Free returns an address of a host where nobody listens and any port will do.
func Free(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
