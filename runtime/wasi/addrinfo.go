package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/sock"
)

// Layouts of the records that a guest prepares for sock_getaddrinfo: a list of addrinfo, each with a
// sockaddr, each of that with a block of data which holds Linux's sockaddr without the family.
const (
	addrinfoSize = 28
	sockaddrSize = 12
	inet4Data    = 14
	inet6Data    = 26
)

// Flags of ai_flags.
const (
	infoPassive     = 1 << 0
	infoNumericHost = 1 << 2
)

// Results that only sock_getaddrinfo has.
const (
	infoAgain   errno = 78
	infoFail    errno = 80
	infoNoname  errno = 84
	infoService errno = 85
)

// lookupLimit bounds one look-up; the servers' own timeouts come first as a rule.
const lookupLimit = 60 * time.Second

// maxName is the longest name a look-up takes (RFC 1035 says 253 for DNS).
const maxName = 1024

func (s *System) sockGetaddrinfo(p []uint64) errno {
	node, e := s.lookupName(uint32(p[0]), uint32(p[1]))
	if e != success {
		return e
	}
	service, e := s.lookupName(uint32(p[2]), uint32(p[3]))
	if e != success {
		return e
	}
	q := sock.Query{Node: node, Service: service}
	stream, e := s.hints(uint32(p[4]), &q)
	switch {
	case e != success:
		return e
	case !s.writable(uint32(p[5]), 4) || !s.writable(uint32(p[7]), 4):
		return eFault
	case s.noNetwork:
		return fromLinux[unix.EACCES]
	}
	ctx, cancel := context.WithTimeout(s.ctx, lookupLimit)
	defer cancel()
	list, err := sock.Resolve(ctx, q)
	s.checkStop()
	if err != nil {
		return lookupErrno(err)
	}
	return s.putAddrinfos(p, list, stream)
}

// lookupName reads a name, which may carry its terminating NUL.
func (s *System) lookupName(p, n uint32) (string, errno) {
	if n > maxName {
		return "", eNametoolng
	}
	b, ok := s.view(p, n)
	if !ok {
		return "", eFault
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), success
		}
	}
	return string(b), success
}

// hints reads what the guest looks for and returns the type of socket it wants.
func (s *System) hints(p uint32, q *sock.Query) (kind uint8, e errno) {
	if p == 0 {
		return socketStream, success
	}
	b, ok := s.view(p, addrinfoSize)
	if !ok {
		return 0, eFault
	}
	flags := binary.LittleEndian.Uint16(b)
	q.Passive = flags&infoPassive != 0
	q.Numeric = flags&infoNumericHost != 0
	switch b[2] {
	case familyAny:
	case familyInet4:
		q.Family = unix.AF_INET
	case familyInet6:
		q.Family = unix.AF_INET6
	default:
		return 0, fromLinux[unix.EAFNOSUPPORT]
	}
	q.UDP = b[3] == socketDgram
	if b[3] == socketAny {
		return socketStream, success
	}
	return b[3], success
}

func lookupErrno(err error) errno {
	var service *net.AddrError
	var dns *net.DNSError
	switch {
	case errors.As(err, &service):
		return infoService
	case !errors.As(err, &dns):
		return infoFail
	case dns.IsNotFound:
		return infoNoname
	case dns.IsTimeout || dns.IsTemporary:
		return infoAgain
	}
	return infoFail
}

// putAddrinfos fills the guest's list as far as it and the answer go.
func (s *System) putAddrinfos(p []uint64, list []netip.AddrPort, kind uint8) errno {
	le := binary.LittleEndian
	head, ok := s.view(uint32(p[5]), 4)
	if !ok {
		return eFault
	}
	at := le.Uint32(head)
	count := uint32(0)
	for _, a := range list {
		if count >= uint32(p[6]) || at == 0 {
			break
		}
		info, ok := s.view(at, addrinfoSize)
		if !ok {
			return eFault
		}
		addr, ok := s.view(le.Uint32(info[12:]), sockaddrSize)
		if !ok {
			return eFault
		}
		family, size := byte(familyInet4), uint32(inet4Data)
		if !a.Addr().Is4() {
			family, size = familyInet6, inet6Data
		}
		data, ok := s.view(le.Uint32(addr[8:]), size)
		if !ok {
			return eFault
		}
		clear(data)
		binary.BigEndian.PutUint16(data, a.Port())
		if family == familyInet4 {
			copy(data[2:], a.Addr().AsSlice())
		} else {
			copy(data[6:], a.Addr().AsSlice()) // behind the flow information
		}
		addr[0] = family
		le.PutUint32(addr[4:], size)
		info[2], info[3] = family, kind
		le.PutUint32(info[8:], size+2)
		at = le.Uint32(info[24:])
		count++
	}
	return s.putU32(uint32(p[7]), count)
}
