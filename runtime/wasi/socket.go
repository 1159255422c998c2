package wasi

import (
	"errors"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/sock"
	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// The functions of this file are WasmEdge's socket extension. Its two versions share most names; where
// they differ, the type of a guest's import tells which one it means. v1 has plain addresses of 4 or 16
// bytes, v2 has 128 bytes that start with the family.

// Types of sockets in sock_open.
const (
	socketAny = iota
	socketDgram
	socketStream
)

// maxBacklog is what a guest may ask for at most; the kernel has its own limit below it.
const maxBacklog = 4096

func (s *System) sockOpen(p []uint64) errno {
	family, ok := linuxFamily(uint32(p[0]))
	if !ok {
		return fromLinux[unix.EAFNOSUPPORT]
	}
	kind := unix.SOCK_STREAM
	switch uint32(p[1]) {
	case socketAny, socketStream:
	case socketDgram:
		kind = unix.SOCK_DGRAM
	default:
		return eInval
	}
	switch {
	case s.noNetwork:
		return fromLinux[unix.EACCES]
	case !s.writable(uint32(p[2]), 4):
		return eFault
	case s.table.full():
		return eMfile
	}
	c, err := sock.Open(family, kind)
	if err != nil {
		return errnoOf(err)
	}
	fd, e := s.table.add(socketDescriptor(c))
	if e != success {
		_ = c.Close()
		return e
	}
	return s.putU32(uint32(p[2]), fd)
}

func (s *System) sockBind(p []uint64) errno {
	d, a, e := s.socketAndAddress(p[0], p[1], p[2], true)
	if e != success {
		return e
	}
	return errnoOf(d.sock.Bind(a))
}

func (s *System) sockListen(p []uint64) errno {
	d, e := s.socketWith(p[0], rightSockAccept)
	if e != success {
		return e
	}
	backlog := min(int(uint32(p[1])), maxBacklog)
	return errnoOf(d.sock.Listen(backlog))
}

// sockConnect waits for the connection unless the guest asked not to: then it says EINPROGRESS, and the
// socket's error option has the result once it is writable.
func (s *System) sockConnect(p []uint64) errno {
	d, a, e := s.socketAndAddress(p[0], p[1], p[2], false)
	if e != success {
		return e
	}
	err := d.sock.Connect(a)
	if !errors.Is(err, unix.EINPROGRESS) || d.flags&flagNonblock != 0 {
		return errnoOf(err)
	}
	for {
		if e := s.await(d, wait.Write); e != success {
			return e
		}
		if err := d.sock.Err(); err != nil {
			return errnoOf(err)
		}
		// A wake-up for another reason leaves the connection undecided.
		if _, err := d.sock.Peer(); err == nil {
			return success
		}
	}
}

func (s *System) socketAndAddress(fd, address, port uint64, binds bool) (*descriptor, unix.Sockaddr, errno) {
	d, e := s.socketWith(fd, 0)
	if e != success {
		return nil, nil, e
	}
	a, e := s.address(uint32(address), uint32(port), binds)
	return d, a, e
}

func (s *System) sockAcceptV1(p []uint64) errno {
	return s.accept(p[0], 0, uint32(p[1]))
}

func (s *System) sockSendTo(p []uint64) errno {
	d, to, e := s.socketAndAddress(p[0], p[3], p[4], false)
	if e != success {
		return e
	}
	if d.base&rightFdWrite == 0 {
		return eNotcapable
	}
	if uint32(p[5]) != 0 {
		return eInval
	}
	bufs, e := s.transfer(p[1], p[2], p[6])
	if e != success {
		return e
	}
	for {
		n, err := d.sock.Send(bufs, to)
		if err == nil {
			return s.putU32(uint32(p[6]), uint32(n))
		}
		if !errors.Is(err, unix.EAGAIN) || d.flags&flagNonblock != 0 {
			return errnoOf(err)
		}
		if e := s.await(d, wait.Write); e != success {
			return e
		}
	}
}

func (s *System) sockRecvFromV1(p []uint64) errno {
	return s.recvFrom(p, 0, uint32(p[5]), uint32(p[6]))
}

func (s *System) sockRecvFromV2(p []uint64) errno {
	return s.recvFrom(p, uint32(p[5]), uint32(p[6]), uint32(p[7]))
}

// recvFrom writes the sender's port where v2 wants it; v1 has no place for it.
func (s *System) recvFrom(p []uint64, port, size, flags uint32) errno {
	if uint32(p[4])&^(recvPeek|recvWaitall) != 0 {
		return eInval
	}
	d, e := s.socketWith(p[0], rightFdRead)
	if e != success {
		return e
	}
	bufs, e := s.vectors(uint32(p[1]), uint32(p[2]))
	if e != success {
		return e
	}
	into, e := s.addressBuffer(uint32(p[3]))
	switch {
	case e != success:
		return e
	case !s.writable(size, 4) || !s.writable(flags, 2) || port != 0 && !s.writable(port, 4):
		return eFault
	}
	n, from, truncated, e := s.receive(d, bufs, uint32(p[4]))
	if e != success {
		return e
	}
	if from != nil {
		number, e := putAddress(into, from)
		if e != success {
			return e
		}
		if port != 0 {
			_ = s.putU32(port, number)
		}
	}
	_ = s.putU32(size, uint32(n))
	return s.putU16(flags, truncated)
}

func (s *System) sockGetlocaladdrV1(p []uint64) errno {
	return s.name(p, (*sock.Socket).Local, uint32(p[2]), uint32(p[3]))
}

func (s *System) sockGetlocaladdrV2(p []uint64) errno {
	return s.name(p, (*sock.Socket).Local, 0, uint32(p[2]))
}

func (s *System) sockGetpeeraddrV1(p []uint64) errno {
	return s.name(p, (*sock.Socket).Peer, uint32(p[2]), uint32(p[3]))
}

func (s *System) sockGetpeeraddrV2(p []uint64) errno {
	return s.name(p, (*sock.Socket).Peer, 0, uint32(p[2]))
}

// name writes an address of a socket; v1 also wants to know whether it is one of IPv4 or 6.
func (s *System) name(p []uint64, get func(*sock.Socket) (unix.Sockaddr, error), version, port uint32) errno {
	d, e := s.socketWith(p[0], 0)
	if e != success {
		return e
	}
	into, e := s.addressBuffer(uint32(p[1]))
	switch {
	case e != success:
		return e
	case !s.writable(port, 4) || version != 0 && !s.writable(version, 4):
		return eFault
	}
	a, err := get(d.sock)
	if err != nil {
		return errnoOf(err)
	}
	number, e := putAddress(into, a)
	if e != success {
		return e
	}
	if version != 0 {
		v := uint32(4)
		if _, six := a.(*unix.SockaddrInet6); six {
			v = 6
		}
		_ = s.putU32(version, v)
	}
	return s.putU32(port, number)
}
