package net

import (
	"sync"
	"syscall"
	"unsafe"
)

// The host functions of WasmEdge's socket extension, in the shapes of its version 2.

//go:wasmimport wasi_snapshot_preview1 sock_open
//go:noescape
func sock_open(family, kind int32, fd unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_bind
//go:noescape
func sock_bind(fd int32, addr unsafe.Pointer, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_listen
//go:noescape
func sock_listen(fd, backlog int32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_connect
//go:noescape
func sock_connect(fd int32, addr unsafe.Pointer, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getlocaladdr
//go:noescape
func sock_getlocaladdr(fd int32, addr, port unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getpeeraddr
//go:noescape
func sock_getpeeraddr(fd int32, addr, port unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_recv_from
//go:noescape
func sock_recv_from(fd int32, iovs unsafe.Pointer, n uint32, addr unsafe.Pointer, flags uint32, port, size, oflags unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_send_to
//go:noescape
func sock_send_to(fd int32, iovs unsafe.Pointer, n uint32, addr unsafe.Pointer, port, flags uint32, size unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getsockopt
//go:noescape
func sock_getsockopt(fd int32, level, name uint32, value unsafe.Pointer, size uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_setsockopt
//go:noescape
func sock_setsockopt(fd int32, level, name uint32, value unsafe.Pointer, size uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getaddrinfo
//go:noescape
func sock_getaddrinfo(node unsafe.Pointer, nodeLen uint32, service unsafe.Pointer, serviceLen uint32, hints, results unsafe.Pointer, most uint32, count unsafe.Pointer) uint32

// Families and types of sockets as the host numbers them.
const (
	hostInet4 = 1
	hostInet6 = 2
	hostUnix  = 3

	hostDgram  = 1
	hostStream = 2
)

// hostRef is how the host is told of memory.
type hostRef struct{ at, size uint32 }

// hostCall is the memory of one call that passes an address or a buffer by reference. It lives on the
// heap, which does not move: a stack may grow, and so move, between taking an address and the call.
type hostCall struct {
	addr   hostRef   // of name
	name   [128]byte // the family, little endian, and the address
	port   uint32
	vector hostRef // of body
	body   []byte
	size   uint32
	flags  uint16
	value  [2]int32
}

var hostCalls = sync.Pool{New: func() any {
	c := new(hostCall)
	c.addr = hostRef{address32(unsafe.Pointer(&c.name)), uint32(len(c.name))}
	return c
}}

func newHostCall() *hostCall { return hostCalls.Get().(*hostCall) }

func (c *hostCall) free() {
	c.body = nil
	hostCalls.Put(c)
}

func address32(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

// hostError makes the error of a host call's result.
func hostError(call string, e uint32) error {
	if e == 0 {
		return nil
	}
	return wrapSyscallError(call, syscall.Errno(e))
}

// setName puts in the address that the call is about.
func (c *hostCall) setName(sa syscall.Sockaddr) error {
	clear(c.name[:])
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		c.name[0] = hostInet4
		copy(c.name[2:], sa.Addr[:])
		c.port = uint32(sa.Port)
	case *syscall.SockaddrInet6:
		c.name[0] = hostInet6
		copy(c.name[2:], sa.Addr[:])
		c.port = uint32(sa.Port)
	case *syscall.SockaddrUnix:
		path, err := hostPath(sa.Name)
		if err != nil {
			return err
		}
		if len(path) > len(c.name)-3 { // a NUL must fit in behind it
			return syscall.ENAMETOOLONG
		}
		c.name[0] = hostUnix
		copy(c.name[2:], path)
		c.port = 0
	default:
		return syscall.EAFNOSUPPORT
	}
	return nil
}

// hostPath makes a socket's name absolute: the working directory is Go's own notion here.
func hostPath(name string) (string, error) {
	switch {
	case name == "" || name[0] == '@': // Linux's abstract names
		return "", syscall.ENOTSUP
	case name[0] == '/':
		return name, nil
	}
	dir, err := syscall.Getwd()
	return dir + "/" + name, err
}

// getName is the address that the host has written; nil for an unknown family.
func (c *hostCall) getName() syscall.Sockaddr {
	switch c.name[0] {
	case hostInet4:
		return &syscall.SockaddrInet4{Port: int(c.port), Addr: [4]byte(c.name[2:])}
	case hostInet6:
		return &syscall.SockaddrInet6{Port: int(c.port), Addr: [16]byte(c.name[2:])}
	case hostUnix:
		path := c.name[2:]
		for i, b := range path {
			if b == 0 {
				path = path[:i]
				break
			}
		}
		return &syscall.SockaddrUnix{Name: string(path)}
	}
	return nil
}

// setBody puts in what is to be sent, or where to receive.
func (c *hostCall) setBody(p []byte) {
	c.body = p // keeps p on the heap too
	c.vector = hostRef{address32(unsafe.Pointer(unsafe.SliceData(p))), uint32(len(p))}
}

// hostName asks for a socket's own address or its peer's.
func hostName(fd int, peer bool) syscall.Sockaddr {
	c := newHostCall()
	defer c.free()
	clear(c.name[:])
	ask := sock_getlocaladdr
	if peer {
		ask = sock_getpeeraddr
	}
	if ask(int32(fd), unsafe.Pointer(&c.addr), unsafe.Pointer(&c.port)) != 0 {
		return nil
	}
	return c.getName()
}
