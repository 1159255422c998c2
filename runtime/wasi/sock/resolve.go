package sock

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Query is a question for the addresses of a name.
type Query struct {
	Node    string // a name or an address; empty means this host
	Service string // a number or a name of /etc/services; empty means 0
	Family  int    // unix.AF_UNSPEC, AF_INET or AF_INET6
	UDP     bool   // the service is one of UDP
	Passive bool   // an empty node means any address instead of loopback
	Numeric bool   // the node must be an address
}

// resolver asks the servers of /etc/resolv.conf, and /etc/hosts, as the process's root has them; never
// libc or nsswitch.
var resolver = &net.Resolver{PreferGo: true}

// Resolve answers q. Errors are *net.DNSError, or *net.AddrError for a service. It waits for name
// servers until ctx is done.
func Resolve(ctx context.Context, q Query) ([]netip.AddrPort, error) {
	port, err := q.port(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := q.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, a := range addrs {
		list = append(list, netip.AddrPortFrom(a.Unmap(), port))
	}
	return list, nil
}

func (q Query) port(ctx context.Context) (uint16, error) {
	if q.Service == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(q.Service, 10, 16); err == nil {
		return uint16(n), nil
	}
	network := "tcp"
	if q.UDP {
		network = "udp"
	}
	n, err := resolver.LookupPort(ctx, network, q.Service)
	if err != nil {
		return 0, &net.AddrError{Err: "unknown service", Addr: q.Service}
	}
	return uint16(n), nil
}

func (q Query) addresses(ctx context.Context) ([]netip.Addr, error) {
	if q.Node == "" {
		return q.own(), nil
	}
	if a, err := netip.ParseAddr(q.Node); err == nil {
		if q.Family == unix.AF_INET && !a.Is4() || q.Family == unix.AF_INET6 && a.Is4() {
			return nil, &net.DNSError{Err: "address of another family", Name: q.Node, IsNotFound: true}
		}
		return []netip.Addr{a.WithZone("")}, nil
	}
	if q.Numeric {
		return nil, &net.DNSError{Err: "not an address", Name: q.Node, IsNotFound: true}
	}
	network := "ip"
	switch q.Family {
	case unix.AF_INET:
		network = "ip4"
	case unix.AF_INET6:
		network = "ip6"
	}
	return resolver.LookupNetIP(ctx, network, q.Node)
}

// own are the addresses of an empty node.
func (q Query) own() []netip.Addr {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if q.Passive {
		v4, v6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	}
	switch q.Family {
	case unix.AF_INET:
		return []netip.Addr{v4}
	case unix.AF_INET6:
		return []netip.Addr{v6}
	}
	return []netip.Addr{v4, v6}
}
