package net

import (
	"runtime"
	"syscall"
	"unsafe"
)

// receive takes one message; read gets at its sender. Ancillary data does not exist here.
func (fd *netFD) receive(p []byte, read func(*hostCall)) (n, flags int, err error) {
	c := newHostCall()
	defer c.free()
	c.setBody(p)
	var e uint32
	err = fd.pfd.RawRead(func(s uintptr) bool {
		clear(c.name[:])
		e = sock_recv_from(int32(s), unsafe.Pointer(&c.vector), 1, unsafe.Pointer(&c.addr), 0,
			unsafe.Pointer(&c.port), unsafe.Pointer(&c.size), unsafe.Pointer(&c.flags))
		return e != uint32(syscall.EAGAIN)
	})
	runtime.KeepAlive(fd)
	if err == nil {
		err = hostError("recvfrom", e)
	}
	if err != nil {
		return 0, 0, err
	}
	read(c)
	return int(c.size), int(c.flags), nil
}

// send sends one message to an address.
func (fd *netFD) send(p []byte, to syscall.Sockaddr) (int, error) {
	c := newHostCall()
	defer c.free()
	if err := c.setName(to); err != nil {
		return 0, wrapSyscallError("sendto", err)
	}
	c.setBody(p)
	var e uint32
	err := fd.pfd.RawWrite(func(s uintptr) bool {
		e = sock_send_to(int32(s), unsafe.Pointer(&c.vector), 1, unsafe.Pointer(&c.addr), c.port, 0, unsafe.Pointer(&c.size))
		return e != uint32(syscall.EAGAIN)
	})
	runtime.KeepAlive(fd)
	if err == nil {
		err = hostError("sendto", e)
	}
	if err != nil {
		return 0, err
	}
	return int(c.size), nil
}

func (c *hostCall) intoInet4(sa *syscall.SockaddrInet4) {
	sa.Port = int(c.port)
	copy(sa.Addr[:], c.name[2:])
}

func (c *hostCall) intoInet6(sa *syscall.SockaddrInet6) {
	sa.Port, sa.ZoneId = int(c.port), 0
	copy(sa.Addr[:], c.name[2:])
}

func (fd *netFD) readFrom(p []byte) (n int, sa syscall.Sockaddr, err error) {
	n, _, err = fd.receive(p, func(c *hostCall) { sa = c.getName() })
	return n, sa, err
}

func (fd *netFD) readFromInet4(p []byte, sa *syscall.SockaddrInet4) (n int, err error) {
	n, _, err = fd.receive(p, func(c *hostCall) { c.intoInet4(sa) })
	return n, err
}

func (fd *netFD) readFromInet6(p []byte, sa *syscall.SockaddrInet6) (n int, err error) {
	n, _, err = fd.receive(p, func(c *hostCall) { c.intoInet6(sa) })
	return n, err
}

func (fd *netFD) readMsg(p []byte, oob []byte, flags int) (n, oobn, retflags int, sa syscall.Sockaddr, err error) {
	n, retflags, err = fd.receive(p, func(c *hostCall) { sa = c.getName() })
	return n, 0, retflags, sa, err
}

func (fd *netFD) readMsgInet4(p []byte, oob []byte, flags int, sa *syscall.SockaddrInet4) (n, oobn, retflags int, err error) {
	n, retflags, err = fd.receive(p, func(c *hostCall) { c.intoInet4(sa) })
	return n, 0, retflags, err
}

func (fd *netFD) readMsgInet6(p []byte, oob []byte, flags int, sa *syscall.SockaddrInet6) (n, oobn, retflags int, err error) {
	n, retflags, err = fd.receive(p, func(c *hostCall) { c.intoInet6(sa) })
	return n, 0, retflags, err
}

func (fd *netFD) writeTo(p []byte, sa syscall.Sockaddr) (int, error) { return fd.send(p, sa) }

func (fd *netFD) writeToInet4(p []byte, sa *syscall.SockaddrInet4) (int, error) {
	return fd.send(p, sa)
}

func (fd *netFD) writeToInet6(p []byte, sa *syscall.SockaddrInet6) (int, error) {
	return fd.send(p, sa)
}

func (fd *netFD) writeMsg(p []byte, oob []byte, sa syscall.Sockaddr) (n, oobn int, err error) {
	if len(oob) > 0 {
		return 0, 0, hostError("sendmsg", uint32(syscall.ENOTSUP))
	}
	if sa == nil {
		n, err = fd.Write(p)
	} else {
		n, err = fd.send(p, sa)
	}
	return n, 0, err
}

func (fd *netFD) writeMsgInet4(p []byte, oob []byte, sa *syscall.SockaddrInet4) (n, oobn int, err error) {
	if sa == nil {
		return fd.writeMsg(p, oob, nil)
	}
	return fd.writeMsg(p, oob, sa)
}

func (fd *netFD) writeMsgInet6(p []byte, oob []byte, sa *syscall.SockaddrInet6) (n, oobn int, err error) {
	if sa == nil {
		return fd.writeMsg(p, oob, nil)
	}
	return fd.writeMsg(p, oob, sa)
}
