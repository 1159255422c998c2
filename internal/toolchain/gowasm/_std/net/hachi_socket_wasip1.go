package net

import (
	"context"
	"internal/poll"
	"syscall"
	"time"
	"unsafe"
)

type controlFunc = func(context.Context, string, string, syscall.RawConn) error

// socket makes a socket that listens at laddr, or is connected to raddr.
func socket(ctx context.Context, net string, family, sotype, proto int, ipv6only bool, laddr, raddr sockaddr, ctrlCtxFn func(context.Context, string, string, syscall.RawConn) error) (*netFD, error) {
	listen := raddr == nil
	port, anyAddress := 0, true
	if a, ok := laddr.(*TCPAddr); ok && a != nil {
		port, anyAddress = a.Port, a.isWildcard()
	}
	if listen && sotype == syscall.SOCK_STREAM && anyAddress {
		if fd := inherit(net, port); fd != nil {
			return fd, nil
		}
	}
	fd, err := openSocket(net, family, sotype, ipv6only)
	if wrapped, ok := err.(interface{ Unwrap() error }); ok && wrapped.Unwrap() == syscall.EAFNOSUPPORT &&
		listen && anyAddress && family == syscall.AF_INET6 && !ipv6only {
		// A host without IPv6 still has the other half of "any address".
		family = syscall.AF_INET
		fd, err = openSocket(net, family, sotype, false)
	}
	if err != nil {
		return nil, err
	}
	if listen {
		err = fd.listen(ctx, laddr, ctrlCtxFn)
	} else {
		err = fd.dial(ctx, laddr, raddr, ctrlCtxFn)
	}
	if err == nil {
		return fd, nil
	}
	_ = fd.Close()
	if wrapped, ok := err.(interface{ Unwrap() error }); ok && wrapped.Unwrap() == syscall.EADDRINUSE && listen && sotype == syscall.SOCK_STREAM {
		if fd := inherit(net, port); fd != nil {
			return fd, nil
		}
	}
	return nil, err
}

// sysSocket is for the probe of a Unix kernel's abilities, which is compiled here but never made.
func sysSocket(family, sotype, proto int) (int, error) { return -1, syscall.ENOSYS }

func openSocket(net string, family, sotype int, ipv6only bool) (*netFD, error) {
	var hostFamily, hostKind int32
	switch family {
	case syscall.AF_INET:
		hostFamily = hostInet4
	case syscall.AF_INET6:
		hostFamily = hostInet6
	case syscall.AF_UNIX:
		hostFamily = hostUnix
	}
	switch sotype {
	case syscall.SOCK_STREAM:
		hostKind = hostStream
	case syscall.SOCK_DGRAM:
		hostKind = hostDgram
	}
	if hostFamily == 0 || hostKind == 0 {
		return nil, hostError("socket", uint32(syscall.ENOTSUP))
	}
	c := newHostCall()
	defer c.free()
	if e := sock_open(hostFamily, hostKind, unsafe.Pointer(&c.value)); e != 0 {
		return nil, hostError("socket", e)
	}
	fd := newNetFD(net, family, sotype, poll.FD{Sysfd: int(c.value[0])})
	err := syscall.SetNonblock(fd.pfd.Sysfd, true)
	if err == nil {
		err = fd.init()
	}
	if err != nil {
		_ = poll.CloseFunc(fd.pfd.Sysfd)
		return nil, err
	}
	if family == syscall.AF_INET6 && ipv6only {
		// Best effort: without it IPv4 clients are served too.
		_ = fd.setOption(levelIPv6, optionV6only, 1)
	}
	if sotype == syscall.SOCK_DGRAM && family != syscall.AF_UNIX {
		_ = fd.setOption(levelSocket, optionBroadcast, 1)
	}
	return fd, nil
}

// control lets the program change the socket before it has an address.
func (fd *netFD) control(ctx context.Context, addr sockaddr, f controlFunc) error {
	if f == nil {
		return nil
	}
	network := fd.net
	if last := network[len(network)-1]; last != '4' && last != '6' {
		switch fd.family {
		case syscall.AF_INET:
			network += "4"
		case syscall.AF_INET6:
			network += "6"
		}
	}
	name := ""
	if addr != nil {
		name = addr.String()
	}
	return f(ctx, network, name, newRawConn(fd))
}

func (fd *netFD) bind(addr sockaddr) error {
	if addr == nil {
		return nil
	}
	sa, err := addr.sockaddr(fd.family)
	if err != nil || sa == nil {
		return err
	}
	c := newHostCall()
	defer c.free()
	if err := c.setName(sa); err != nil {
		return wrapSyscallError("bind", err)
	}
	return hostError("bind", sock_bind(int32(fd.pfd.Sysfd), unsafe.Pointer(&c.addr), c.port))
}

func (fd *netFD) listen(ctx context.Context, laddr sockaddr, f controlFunc) error {
	if err := fd.control(ctx, laddr, f); err != nil {
		return err
	}
	if u, ok := laddr.(*UDPAddr); ok && u.IP.IsMulticast() {
		// A group is no address of this host: receive what comes for the port. Several may.
		_ = fd.setOption(levelSocket, optionReuseaddr, 1)
		group := *u
		group.IP = IPv4zero
		if fd.family == syscall.AF_INET6 {
			group.IP = IPv6unspecified
		}
		laddr = &group
	}
	if err := fd.bind(laddr); err != nil {
		return err
	}
	if fd.sotype == syscall.SOCK_STREAM {
		if e := sock_listen(int32(fd.pfd.Sysfd), int32(listenerBacklog())); e != 0 {
			return hostError("listen", e)
		}
	}
	name, _ := fd.names()
	if u, ok := laddr.(*UnixAddr); ok && u != nil {
		name = u // as the program wrote it, with which it also removes the file
	}
	fd.setAddr(name, nil)
	return nil
}

func (fd *netFD) dial(ctx context.Context, laddr, raddr sockaddr, f controlFunc) error {
	if err := fd.control(ctx, raddr, f); err != nil {
		return err
	}
	if err := fd.bind(laddr); err != nil {
		return err
	}
	sa, err := raddr.sockaddr(fd.family)
	if err != nil {
		return err
	}
	if err := fd.connect(ctx, sa); err != nil {
		return err
	}
	fd.isConnected = true
	local, remote := fd.names()
	if remote == nil {
		remote = raddr
	}
	fd.setAddr(local, remote)
	return nil
}

// connect waits until the connection is there, refused, or no longer wanted.
func (fd *netFD) connect(ctx context.Context, sa syscall.Sockaddr) error {
	c := newHostCall()
	defer c.free()
	if err := c.setName(sa); err != nil {
		return wrapSyscallError("connect", err)
	}
	e := sock_connect(int32(fd.pfd.Sysfd), unsafe.Pointer(&c.addr), c.port)
	for e == uint32(syscall.EINPROGRESS) || e == uint32(syscall.EALREADY) {
		if err := fd.waitConnected(ctx); err != nil {
			return err
		}
		failed, err := fd.option(levelSocket, optionError)
		if err != nil {
			return err
		}
		if e = uint32(failed); e == 0 && hostName(fd.pfd.Sysfd, true) == nil {
			e = uint32(syscall.EINPROGRESS) // woken for nothing
		}
	}
	return hostError("connect", e)
}

// waitConnected waits for the socket to become writable, or for ctx.
func (fd *netFD) waitConnected(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return mapErr(err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = fd.pfd.SetWriteDeadline(deadline)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = fd.pfd.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := fd.pfd.WaitWrite()
	if !stop() {
		<-interrupted // its deadline must not come behind ours
	}
	_ = fd.pfd.SetWriteDeadline(time.Time{})
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil {
		return mapErr(ctxErr)
	}
	return err
}
