package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/redirect"
)

// size of a request and of a reply, in bytes.
const size = 64

// endpoint accepts, learns where each client wanted to go, as an endpoint must, and answers every request with that.
// learn says how: the directory of redirection's pins, "sockopt", or nothing.
func endpoint(learn string, ready io.Writer) error {
	original := func(c net.Conn) (netip.AddrPort, error) { return netip.ParseAddrPort(c.LocalAddr().String()) }
	switch learn {
	case "":
	case "sockopt":
		original = sockoptOriginal
	default:
		r, err := redirect.Open(context.Background(), redirect.Options{Root: learn})
		if err != nil {
			return err
		}
		defer r.Close()
		original = r.OriginalDst
	}
	l, err := redirect.Listen(context.Background(), nil, "tcp", direct)
	if err != nil {
		return err
	}
	defer l.Close()
	go func() { // nobody wants it any more
		_, _ = io.Copy(io.Discard, os.Stdin)
		l.Close()
	}()
	if _, err := fmt.Fprintln(ready, "ready"); err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		// One after the other: there is one client, with one connection.
		if err := answer(c, original, buf); err != nil {
			return err
		}
	}
}

func answer(c net.Conn, original func(net.Conn) (netip.AddrPort, error), buf []byte) error {
	defer c.Close()
	to, err := original(c)
	if err != nil {
		return err
	}
	reply := make([]byte, size)
	copy(reply, to.String())
	for {
		n, err := c.Read(buf)
		if err != nil { // the end of the connection, in whatever form
			return nil
		}
		if buf[n-1] == 0 { // bulk; what follows it is a request, which has no zeros
			continue
		}
		if _, err := c.Write(reply); err != nil {
			return nil
		}
	}
}

// sockoptOriginal asks connection tracking, by SO_ORIGINAL_DST of linux/netfilter_ipv4.h.
func sockoptOriginal(c net.Conn) (to netip.AddrPort, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return to, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// A struct sockaddr_in in the clothes of one that Go has a call for.
		const soOriginalDst = 80
		var sa *unix.IPv6Mreq
		if sa, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, soOriginalDst); failed == nil {
			b := sa.Multiaddr
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	})
	return to, errors.Join(err, failed)
}
