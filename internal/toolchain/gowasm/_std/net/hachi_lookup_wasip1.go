package net

import (
	"context"
	"errors"
	"syscall"
	"unsafe"
)

// cgoAvailable says that there is a resolver beside Go's own: the host. Programs choose it as they choose
// libc's elsewhere, with GODEBUG=netdns=cgo.
const cgoAvailable = true

// hostLookupOrder leaves look-ups to the host where Go's resolver has nothing to go by: in a guest without
// /etc/resolv.conf it would ask a name server on this machine.
func (c *conf) hostLookupOrder(r *Resolver, hostname string) (ret hostLookupOrder, dnsConf *dnsConfig) {
	ret, dnsConf = c.goHostLookupOrder(r, hostname)
	if dnsConf != nil && dnsConf.err != nil && ret != hostLookupFiles && !c.mustUseGoResolver(r) && (r == nil || r.Dial == nil) {
		return hostLookupCgo, dnsConf
	}
	return ret, dnsConf
}

// Results of sock_getaddrinfo that are no errno.
const (
	infoAgain  = 78
	infoNoname = 84
)

// hostInfo, hostSockaddr and their data are the records that sock_getaddrinfo fills in.
type hostInfo struct {
	flags            uint16
	family, socktype uint8
	protocol         uint32
	addrlen          uint32
	addr             uint32
	name, nameLen    uint32
	next             uint32
}

type hostSockaddr struct {
	family uint8
	size   uint32
	data   uint32
}

type hostAnswer struct {
	info hostInfo
	addr hostSockaddr
	data [26]byte // the port, and for IPv6 the flow information, the address and the zone
}

// maxAnswers is how many addresses of a name are enough.
const maxAnswers = 32

func cgoLookupHost(ctx context.Context, name string) (addrs []string, err error) {
	ips, err := cgoLookupIP(ctx, "ip", name)
	for _, ip := range ips {
		addrs = append(addrs, ip.String())
	}
	return addrs, err
}

// cgoLookupIP looks in /etc/hosts and asks the host. The program stands still meanwhile.
func cgoLookupIP(ctx context.Context, network, name string) ([]IPAddr, error) {
	if err := ctx.Err(); err != nil {
		return nil, mapErr(err)
	}
	known, _ := lookupStaticHost(name)
	if len(known) == 0 && (name == "localhost" || stringsHasSuffixFold(name, ".localhost")) {
		known = []string{"127.0.0.1", "::1"} // RFC 6761
	}
	if len(known) == 0 {
		return hostLookup(network, name)
	}
	var addrs []IPAddr
	for _, s := range known {
		ip, zone := parseIPZoned(s)
		if v4 := ip.To4() != nil; ip != nil && (v4 && network != "ip6" || !v4 && network != "ip4") {
			addrs = append(addrs, IPAddr{IP: ip, Zone: zone})
		}
	}
	if len(addrs) == 0 {
		return nil, &DNSError{Err: errNoSuchHost.Error(), Name: name, IsNotFound: true}
	}
	return addrs, nil
}

func parseIPZoned(s string) (IP, string) {
	ip, zone := s, ""
	if i := indexByte(s, '%'); i >= 0 {
		ip, zone = s[:i], s[i+1:]
	}
	return ParseIP(ip), zone
}

func hostLookup(network, name string) ([]IPAddr, error) {
	if name == "" {
		return nil, &DNSError{Err: errNoSuchHost.Error(), Name: name, IsNotFound: true}
	}
	// Everything is reached from one object on the heap, so that nothing of it moves.
	q := &struct {
		hints   hostInfo
		answers [maxAnswers]hostAnswer
		first   uint32
		count   uint32
		name    []byte
	}{name: []byte(name)}
	q.hints.socktype = hostStream
	switch network[len(network)-1] {
	case '4':
		q.hints.family = hostInet4
	case '6':
		q.hints.family = hostInet6
	}
	for i := range q.answers {
		a := &q.answers[i]
		a.info.addr = address32(unsafe.Pointer(&a.addr))
		a.addr.data, a.addr.size = address32(unsafe.Pointer(&a.data)), uint32(len(a.data))
		if i > 0 {
			q.answers[i-1].info.next = address32(unsafe.Pointer(&a.info))
		}
	}
	q.first = address32(unsafe.Pointer(&q.answers[0].info))
	lookups = q // makes it escape
	e := sock_getaddrinfo(unsafe.Pointer(unsafe.SliceData(q.name)), uint32(len(q.name)), nil, 0,
		unsafe.Pointer(&q.hints), unsafe.Pointer(&q.first), maxAnswers, unsafe.Pointer(&q.count))
	lookups = nil
	if e != 0 {
		return nil, lookupError(name, e)
	}
	var addrs []IPAddr
	for i := range q.answers[:min(q.count, maxAnswers)] {
		a := &q.answers[i]
		switch a.info.family {
		case hostInet4:
			addrs = append(addrs, IPAddr{IP: IPv4(a.data[2], a.data[3], a.data[4], a.data[5])})
		case hostInet6:
			addrs = append(addrs, IPAddr{IP: append(IP(nil), a.data[6:22]...)})
		}
	}
	if len(addrs) == 0 {
		return nil, lookupError(name, infoNoname)
	}
	return addrs, nil
}

var lookups any

func lookupError(name string, e uint32) error {
	err := &DNSError{Name: name, Server: "host"}
	switch e {
	case infoNoname:
		err.Err, err.IsNotFound = errNoSuchHost.Error(), true
	case infoAgain:
		err.Err, err.IsTemporary = "name servers do not answer", true
	default:
		err.Err = "look-up failed"
		if e <= uint32(syscall.ENOTCAPABLE) {
			err.Err = syscall.Errno(e).Error()
		}
	}
	return err
}

func cgoLookupPort(ctx context.Context, network, service string) (port int, err error) {
	return goLookupPort(network, service)
}

var errOnlyAddresses = errors.New("the host knows addresses of names only")

func cgoLookupPTR(ctx context.Context, addr string) (ptrs []string, err error) {
	return nil, &DNSError{Err: errOnlyAddresses.Error(), Name: addr}
}
