package wasi

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/sock"
)

// Address families of the socket extension.
const (
	familyAny = iota
	familyInet4
	familyInet6
	familyUnix
)

// longAddress is the size of v2's address buffer.
const longAddress = 128

func linuxFamily(f uint32) (int, bool) {
	switch f {
	case familyAny, familyInet4:
		return unix.AF_INET, true
	case familyInet6:
		return unix.AF_INET6, true
	case familyUnix:
		return unix.AF_UNIX, true
	}
	return 0, false
}

// addressBuffer finds the buffer that an address record {pointer, length} describes.
func (s *System) addressBuffer(p uint32) ([]byte, errno) {
	record, ok := s.view(p, 8)
	if !ok {
		return nil, eFault
	}
	b, ok := s.view(binary.LittleEndian.Uint32(record), binary.LittleEndian.Uint32(record[4:]))
	if !ok {
		return nil, eFault
	}
	return b, success
}

// address reads an address that the guest passes; binds tells that a name is to be made of it.
func (s *System) address(p, port uint32, binds bool) (unix.Sockaddr, errno) {
	b, e := s.addressBuffer(p)
	if e != success {
		return nil, e
	}
	family := uint16(familyAny)
	switch {
	case len(b) == 4:
		family = familyInet4
	case len(b) == 16:
		family = familyInet6
	case len(b) > 2:
		family = binary.LittleEndian.Uint16(b)
		b = b[2:]
	}
	if port > 65535 {
		return nil, eInval
	}
	switch {
	case family == familyInet4 && len(b) >= 4:
		return sock.Inet(netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(port))), success
	case family == familyInet6 && len(b) >= 16:
		return sock.Inet(netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), uint16(port))), success
	case family == familyUnix:
		return s.unixAddress(b, binds)
	}
	return nil, eInval
}

// unixAddress admits names of Unix sockets only where the guest's "/" is the process's own root: the
// kernel looks names up from there, and no flag confines it. So the way there must be one without links.
func (s *System) unixAddress(b []byte, binds bool) (unix.Sockaddr, errno) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if len(b) == 0 || s.rootTree == nil {
		return nil, eNotsup
	}
	if binds && s.rootTree.ReadOnly() {
		return nil, eRofs
	}
	// The guest has no working directory that the kernel knows.
	name := path.Join("/", string(b))
	if err := s.rootTree.Plain(path.Dir(name), binds); err != nil {
		return nil, errnoOf(err)
	}
	return &unix.SockaddrUnix{Name: name}, success
}

// putAddress writes an address in the form that the buffer's size asks for, and returns its port.
func putAddress(b []byte, a unix.Sockaddr) (port uint32, e errno) {
	long := len(b) >= longAddress
	if u, ok := a.(*unix.SockaddrUnix); ok {
		if !long {
			return 0, eNotsup
		}
		clear(b[:longAddress])
		binary.LittleEndian.PutUint16(b, familyUnix)
		copy(b[2:longAddress], u.Name)
		return 0, success
	}
	ap := sock.AddrPort(a)
	if !ap.IsValid() {
		return 0, eNotsup
	}
	ip := ap.Addr().AsSlice()
	if long {
		clear(b[:longAddress])
		family := uint16(familyInet4)
		if len(ip) == 16 {
			family = familyInet6
		}
		binary.LittleEndian.PutUint16(b, family)
		b = b[2:]
	}
	if len(b) < len(ip) {
		return 0, eOverflow
	}
	copy(b, ip)
	return uint32(ap.Port()), success
}
