package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func udpUnconnected() error {
	a, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return err
	}
	defer b.Close()
	if n, err := b.WriteTo([]byte("one"), a.LocalAddr()); n != 3 || err != nil {
		return fmt.Errorf("write: %d, %v", n, err)
	}
	buf := make([]byte, 100)
	n, from, err := a.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "one" || from.(*net.UDPAddr).Port != b.LocalAddr().(*net.UDPAddr).Port {
		return fmt.Errorf("read: %q from %v, %v", buf[:n], from, err)
	}
	// An empty datagram is one too.
	if _, err := a.WriteTo(nil, from); err != nil {
		return err
	}
	if n, from, err := b.ReadFrom(buf); n != 0 || err != nil || from.String() != a.LocalAddr().String() {
		return fmt.Errorf("empty datagram: %d from %v, %v", n, from, err)
	}
	const d = 40 * time.Millisecond
	a.SetReadDeadline(time.Now().Add(d))
	if err := within("read", d, os.ErrDeadlineExceeded, func() error { _, _, err := a.ReadFrom(buf); return err }); err != nil {
		return err
	}
	time.AfterFunc(d, func() { b.Close() })
	return within("read of a closed socket", d, net.ErrClosed, func() error { _, _, err := b.ReadFrom(buf); return err })
}

func udpConnected() error {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	if client.RemoteAddr().String() != server.LocalAddr().String() {
		return fmt.Errorf("connected to %v, not %v", client.RemoteAddr(), server.LocalAddr())
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(client, "ping %d", i); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || from.String() != client.LocalAddr().String() {
			return fmt.Errorf("from %v, not %v: %v", from, client.LocalAddr(), err)
		}
		if _, err := server.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return err
		}
		if n, err = client.Read(buf); err != nil || string(buf[:n]) != fmt.Sprintf("ping %d", i) {
			return fmt.Errorf("answer %q, %v", buf[:n], err)
		}
	}
	if _, err := client.(*net.UDPConn).WriteTo([]byte("x"), server.LocalAddr()); !errors.Is(err, net.ErrWriteToConnected) {
		return fmt.Errorf("write to an address when connected: %v", err)
	}
	return nil
}

func udpMessages() error {
	a, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		return err
	}
	defer a.Close()
	to := a.LocalAddr().(*net.UDPAddr).AddrPort()
	b, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer b.Close()
	if n, _, err := b.WriteMsgUDP([]byte("a message"), nil, nil); n != 9 || err != nil {
		return fmt.Errorf("send: %d, %v", n, err)
	}
	buf := make([]byte, 4)
	n, oobn, flags, from, err := a.ReadMsgUDPAddrPort(buf, nil)
	if err != nil || string(buf[:n]) != "a me" || oobn != 0 || flags == 0 || from.String() != b.LocalAddr().String() {
		return fmt.Errorf("message cut short: %q, %d, flags %d, from %v, %v", buf[:n], oobn, flags, from, err)
	}
	return nil
}

func udpRefused() error {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	gone.Close()
	c, err := net.Dial("udp", gone.LocalAddr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("anybody?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return wantOpError(err, "read", "read", syscall.ECONNREFUSED)
}

func inet6() error {
	client, server, err := pair("tcp", "[::1]:0")
	if err != nil {
		return err
	}
	return errors.Join(client.Close(), server.Close())
}

// dualStack listens on every address of both kinds.
func dualStack() error {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		s, err := l.Accept()
		if err != nil {
			return err
		}
		if got := s.RemoteAddr().String(); got != c.LocalAddr().String() {
			return fmt.Errorf("client %v is %s to the server", c.LocalAddr(), got)
		}
		c.Close()
		s.Close()
	}
	return nil
}

func inet4Only() error {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", l.Addr().(*net.TCPAddr).Port)); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("IPv6 to a listener of IPv4 only: %v", err)
	}
	return nil
}

func unixStream() error {
	path := filepath.Join(os.TempDir(), "stream.sock")
	client, server, err := pair("unix", path)
	if err != nil {
		// pair compares names; a client's has none.
		l, lerr := net.Listen("unix", path)
		if lerr != nil {
			return lerr
		}
		defer l.Close()
		if client, err = net.Dial("unix", path); err != nil {
			return err
		}
		if server, err = l.Accept(); err != nil {
			return err
		}
		if client.RemoteAddr().String() != path {
			return fmt.Errorf("the server is %v, not %s", client.RemoteAddr(), path)
		}
	}
	defer server.Close()
	fmt.Fprint(client, "hello")
	buf := make([]byte, 5)
	if _, err := server.Read(buf); err != nil || string(buf) != "hello" {
		return fmt.Errorf("read %q, %v", buf, err)
	}
	return client.Close()
}

func unixDatagram() error {
	path := filepath.Join(os.TempDir(), "datagram.sock")
	os.Remove(path)
	a, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Fprint(b, "hello")
	buf := make([]byte, 10)
	n, _, err := a.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "hello" {
		return fmt.Errorf("read %q, %v", buf[:n], err)
	}
	return nil
}
