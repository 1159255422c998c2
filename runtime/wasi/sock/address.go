package sock

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Inet makes a socket address of an IP address and a port.
func Inet(a netip.AddrPort) unix.Sockaddr {
	if ip := a.Addr(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// AddrPort is the IP address and port of a socket address; it is invalid for other families.
func AddrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Local is the socket's own address.
func (s *Socket) Local() (unix.Sockaddr, error) { return unix.Getsockname(s.fd) }

// Peer is the address at the other end.
func (s *Socket) Peer() (unix.Sockaddr, error) { return unix.Getpeername(s.fd) }
