//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tellOriginal asks the socket where its client wanted to go, as proxies behind iptables do.
func tellOriginal(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// A sockaddr_in, in the least of x/sys's structures that it fits into.
		const originalDst = 80 // SO_ORIGINAL_DST of linux/netfilter_ipv4.h
		var m *unix.IPv6Mreq
		if m, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDst); failed != nil {
			return
		}
		a := m.Multiaddr
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), binary.BigEndian.Uint16(a[2:4]))
		fmt.Println("asked for", to)
	})
	if err == nil {
		err = failed
	}
	return err
}
