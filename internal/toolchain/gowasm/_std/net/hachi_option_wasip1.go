package net

import (
	"syscall"
	"time"
	"unsafe"
)

// Levels and names of socket options as the host numbers them. Of levelSocket they are the extension's own,
// else Linux's.
const (
	levelSocket = 0
	levelTCP    = 6
	levelIPv6   = 41

	optionReuseaddr  = 0
	optionError      = 2
	optionBroadcast  = 4
	optionSndbuf     = 5
	optionRcvbuf     = 6
	optionKeepalive  = 7
	optionLinger     = 9
	optionAcceptconn = 13

	optionNodelay   = 1 // of levelTCP, as are the next
	optionKeepidle  = 4
	optionKeepintvl = 5
	optionKeepcnt   = 6

	optionV6only = 26 // of levelIPv6
)

// hostOption reads an option that is a number.
func hostOption(sysfd int, level, name uint32) (int, uint32) {
	c := newHostCall()
	defer c.free()
	c.value[0] = 0
	e := sock_getsockopt(int32(sysfd), level, name, unsafe.Pointer(&c.value), 4)
	return int(c.value[0]), e
}

func (fd *netFD) option(level, name uint32) (value int, err error) {
	var e uint32
	err = fd.pfd.RawControl(func(s uintptr) { value, e = hostOption(int(s), level, name) })
	if err == nil {
		err = hostError("getsockopt", e)
	}
	return value, err
}

// setOption sets an option of one number, or two.
func (fd *netFD) setOption(level, name uint32, values ...int) error {
	c := newHostCall()
	defer c.free()
	for i, v := range values {
		c.value[i] = int32(v)
	}
	var e uint32
	err := fd.pfd.RawControl(func(s uintptr) {
		e = sock_setsockopt(int32(s), level, name, unsafe.Pointer(&c.value), uint32(4*len(values)))
	})
	if err == nil {
		err = hostError("setsockopt", e)
	}
	return err
}

func setReadBuffer(fd *netFD, bytes int) error {
	return fd.setOption(levelSocket, optionRcvbuf, bytes)
}

func setWriteBuffer(fd *netFD, bytes int) error {
	return fd.setOption(levelSocket, optionSndbuf, bytes)
}

func setLinger(fd *netFD, sec int) error {
	if sec < 0 {
		return fd.setOption(levelSocket, optionLinger, 0, 0)
	}
	return fd.setOption(levelSocket, optionLinger, 1, sec)
}

// setNoDelay asks the host only for a change: Go wants it for every connection, and has it already.
func setNoDelay(fd *netFD, noDelay bool) error {
	if fd.nagle.Load() == !noDelay {
		return nil
	}
	value := 0
	if noDelay {
		value = 1
	}
	err := fd.setOption(levelTCP, optionNodelay, value)
	if err == nil {
		fd.nagle.Store(!noDelay)
	}
	return err
}

func setKeepAlive(fd *netFD, keepalive bool) error {
	value := 0
	if keepalive {
		value = 1
	}
	return fd.setOption(levelSocket, optionKeepalive, value)
}

// noKeepAliveTimes is set when the host has said that it has no such options.
var noKeepAliveTimes bool

// setKeepAliveTime sets what a program rather does without than fail. Zero means Go's default, a negative
// value the host's.
func setKeepAliveTime(fd *netFD, name uint32, value, normal int) error {
	if value == 0 {
		value = normal
	}
	if value < 0 || noKeepAliveTimes {
		return nil
	}
	err := fd.setOption(levelTCP, name, value)
	if wrapped, ok := err.(interface{ Unwrap() error }); ok && wrapped.Unwrap() == syscall.ENOPROTOOPT {
		noKeepAliveTimes = true
		return nil
	}
	return err
}

func setKeepAliveIdle(fd *netFD, d time.Duration) error {
	return setKeepAliveTime(fd, optionKeepidle, seconds(d), seconds(defaultTCPKeepAliveIdle))
}

func setKeepAliveInterval(fd *netFD, d time.Duration) error {
	return setKeepAliveTime(fd, optionKeepintvl, seconds(d), seconds(defaultTCPKeepAliveInterval))
}

func setKeepAliveCount(fd *netFD, n int) error {
	return setKeepAliveTime(fd, optionKeepcnt, n, defaultTCPKeepAliveCount)
}

// seconds rounds up, also what is less than nothing.
func seconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int((d + time.Second - 1) / time.Second)
}
