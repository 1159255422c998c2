package wasi

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/exchange"
	"github.com/hachi-run/hachi/runtime/wasi/sock"
	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// Flags of `riflags`, `roflags` and `sdflags`.
const (
	recvPeek      = 1
	recvWaitall   = 2
	recvTruncated = 1
	shutdownRead  = 1
	shutdownWrite = 2
)

// socketWith finds a socket that has the right.
func (s *System) socketWith(fd uint64, need rights) (*descriptor, errno) {
	d := s.table.get(uint32(fd))
	switch {
	case d == nil:
		return nil, eBadf
	case d.sock == nil:
		return nil, eNotsock
	case d.base&need != need:
		return nil, eNotcapable
	}
	return d, success
}

func (s *System) sockAccept(p []uint64) errno {
	return s.accept(p[0], uint32(p[1]), uint32(p[2]))
}

func (s *System) accept(fd uint64, flags, result uint32) errno {
	if flags&^uint32(flagNonblock) != 0 {
		return eInval
	}
	d, e := s.socketWith(fd, rightSockAccept)
	switch {
	case e != success:
		return e
	case !d.sock.Listening():
		return eInval
	case !s.writable(result, 4):
		return eFault
	}
	for {
		if s.table.full() {
			return eMfile
		}
		c, err := s.tryAccept(d)
		if err == nil {
			return s.addConnection(c, fdflags(flags), result)
		}
		if !errors.Is(err, unix.EAGAIN) || d.flags&flagNonblock != 0 {
			return errnoOf(err)
		}
		if e := s.await(d, wait.Read); e != success {
			return e
		}
	}
}

// tryAccept finds nobody once the system drains.
func (s *System) tryAccept(d *descriptor) (*sock.Socket, error) {
	if s.draining.Load() {
		return nil, unix.EAGAIN
	}
	return d.sock.Accept()
}

func (s *System) addConnection(c *sock.Socket, flags fdflags, result uint32) errno {
	d := socketDescriptor(c)
	d.flags = flags
	d.connection, d.active = new(exchange.Tracker), time.Now()
	fd, e := s.table.add(d)
	if e != success {
		_ = d.close()
		return e
	}
	s.connections.Add(1)
	return s.putU32(result, fd)
}

func (s *System) sockRecv(p []uint64) errno {
	if uint32(p[3])&^(recvPeek|recvWaitall) != 0 {
		return eInval
	}
	d, e := s.socketWith(p[0], rightFdRead)
	if e != success {
		return e
	}
	bufs, e := s.transfer(p[1], p[2], p[4])
	switch {
	case e != success:
		return e
	case !s.writable(uint32(p[5]), 2):
		return eFault
	}
	n, _, truncated, e := s.receive(d, bufs, uint32(p[3]))
	if e != success {
		return e
	}
	if e := s.putU32(uint32(p[4]), uint32(n)); e != success {
		return e
	}
	return s.putU16(uint32(p[5]), truncated)
}

// receive waits for data unless the guest asked not to; with recvWaitall until the buffers of a stream
// are full.
func (s *System) receive(d *descriptor, bufs [][]byte, flags uint32) (n int, from unix.Sockaddr, truncated uint16, e errno) {
	if s.othersTurn(d) {
		return 0, nil, 0, eAgain
	}
	linux := 0
	if flags&recvPeek != 0 {
		linux = unix.MSG_PEEK
	}
	all := flags&(recvWaitall|recvPeek) == recvWaitall && d.sock.Stream() && d.flags&flagNonblock == 0
	for {
		got, peer, cut, err := d.sock.Recv(bufs, linux)
		n += got
		if flags&recvPeek == 0 {
			d.received(bufs, got)
		}
		switch {
		case errors.Is(err, unix.EAGAIN) && d.flags&flagNonblock == 0:
			if e := s.await(d, wait.Read); e != success {
				return n, nil, 0, e
			}
			continue
		case err != nil && n == 0:
			return 0, nil, 0, errnoOf(err)
		case err != nil:
			return n, nil, 0, success
		}
		if cut {
			truncated = recvTruncated
		}
		if bufs = advance(bufs, got); !all || got == 0 || len(bufs) == 0 {
			return n, peer, truncated, success
		}
	}
}

func (s *System) sockSend(p []uint64) errno {
	if uint32(p[3]) != 0 {
		return eInval
	}
	d, e := s.socketWith(p[0], rightFdWrite)
	if e != success {
		return e
	}
	bufs, e := s.transfer(p[1], p[2], p[4])
	if e != success {
		return e
	}
	n, e := s.write(d, bufs)
	if e != success {
		return e
	}
	return s.putU32(uint32(p[4]), uint32(n))
}

func (s *System) sockShutdown(p []uint64) errno {
	var how int
	switch uint32(p[1]) {
	case shutdownRead:
		how = unix.SHUT_RD
	case shutdownWrite:
		how = unix.SHUT_WR
	case shutdownRead | shutdownWrite:
		how = unix.SHUT_RDWR
	default:
		return eInval
	}
	d, e := s.socketWith(p[0], rightSockShutdown)
	if e != success {
		return e
	}
	return errnoOf(d.sock.Shutdown(how))
}
