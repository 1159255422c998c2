package net

import (
	"internal/poll"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// netFD is a socket of the host. All waiting goes through pfd, and so through the runtime's poller.
type netFD struct {
	pfd poll.FD

	// Set before anybody else sees the socket.
	family      int
	sotype      int
	isConnected bool
	net         string
	laddr       Addr
	raddr       Addr
	inherited   *inheritedListener

	nagle atomic.Bool // TCP_NODELAY is off; the host turns it on for every socket
}

// newNetFD takes over a non-blocking descriptor. Close it if init fails.
func newNetFD(net string, family, sotype int, pfd poll.FD) *netFD {
	pfd.IsStream = sotype == syscall.SOCK_STREAM
	pfd.ZeroReadIsEOF = sotype != syscall.SOCK_DGRAM
	return &netFD{pfd: pfd, net: net, family: family, sotype: sotype}
}

// newPollFD makes a socket of a descriptor that came with an *os.File. The host knows its addresses.
func newPollFD(net string, pfd poll.FD) *netFD {
	sotype := syscall.SOCK_STREAM
	if net == "udp" {
		sotype = syscall.SOCK_DGRAM
	}
	fd := newNetFD(net, syscall.AF_INET, sotype, pfd)
	switch hostName(fd.pfd.Sysfd, false).(type) {
	case *syscall.SockaddrInet6:
		fd.family = syscall.AF_INET6
	case *syscall.SockaddrUnix:
		fd.family = syscall.AF_UNIX
	}
	fd.laddr, fd.raddr = fd.names()
	if fd.laddr == nil { // its type is promised at least
		fd.laddr = &TCPAddr{}
		if sotype == syscall.SOCK_DGRAM {
			fd.laddr = &UDPAddr{}
		}
	}
	fd.isConnected = fd.raddr != nil
	return fd
}

func (fd *netFD) init() error { return fd.pfd.Init(fd.net, true) }

// names are the socket's addresses as the host has them. Without a peer raddr is nil.
func (fd *netFD) names() (laddr, raddr Addr) {
	address := fd.addrFunc()
	if sa := hostName(fd.pfd.Sysfd, false); sa != nil {
		laddr = address(sa)
	}
	if sa := hostName(fd.pfd.Sysfd, true); sa != nil {
		raddr = address(sa)
	}
	return laddr, raddr
}

// setAddr also makes sure that a forgotten socket is closed in the end.
func (fd *netFD) setAddr(laddr, raddr Addr) {
	fd.laddr, fd.raddr = laddr, raddr
	runtime.SetFinalizer(fd, (*netFD).Close)
}

func (fd *netFD) accept() (*netFD, error) {
	sysfd, _, call, err := fd.pfd.Accept()
	if err != nil {
		if call != "" {
			err = wrapSyscallError(call, err)
		}
		return nil, err
	}
	conn := newNetFD(fd.net, fd.family, fd.sotype, poll.FD{Sysfd: sysfd})
	if err := conn.init(); err != nil {
		_ = poll.CloseFunc(sysfd)
		return nil, err
	}
	conn.isConnected = true
	conn.setAddr(conn.names())
	return conn, nil
}

func (fd *netFD) Close() error {
	runtime.SetFinalizer(fd, nil)
	err := fd.pfd.Close()
	if err == nil && fd.inherited != nil {
		fd.inherited.release()
	}
	return err
}

func (fd *netFD) shutdown(how int) error {
	err := fd.pfd.Shutdown(how)
	runtime.KeepAlive(fd)
	return wrapSyscallError("shutdown", err)
}

func (fd *netFD) closeRead() error  { return fd.shutdown(syscall.SHUT_RD) }
func (fd *netFD) closeWrite() error { return fd.shutdown(syscall.SHUT_WR) }

// The names of the system calls that errors carry are those of Unix, whatever the host's functions are
// called: programs and people look for them.

func (fd *netFD) Read(p []byte) (int, error) {
	n, err := fd.pfd.Read(p)
	runtime.KeepAlive(fd)
	return n, wrapSyscallError("read", err)
}

func (fd *netFD) Write(p []byte) (int, error) {
	n, err := fd.pfd.Write(p)
	runtime.KeepAlive(fd)
	return n, wrapSyscallError("write", err)
}

func (fd *netFD) SetDeadline(t time.Time) error      { return fd.pfd.SetDeadline(t) }
func (fd *netFD) SetReadDeadline(t time.Time) error  { return fd.pfd.SetReadDeadline(t) }
func (fd *netFD) SetWriteDeadline(t time.Time) error { return fd.pfd.SetWriteDeadline(t) }

// dup is impossible: WASI has no second number for a descriptor.
func (fd *netFD) dup() (*os.File, error) { return nil, os.NewSyscallError("dup", syscall.ENOSYS) }
