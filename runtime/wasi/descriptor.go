package wasi

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/exchange"
	"github.com/hachi-run/hachi/runtime/wasi/sock"
	"github.com/hachi-run/hachi/runtime/wasi/stream"
	"github.com/hachi-run/hachi/runtime/wasi/tree"
	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// filetype is preview1's `filetype`.
type filetype uint8

const (
	typeUnknown filetype = iota
	typeBlockDevice
	typeCharacterDevice
	typeDirectory
	typeRegularFile
	typeSocketDgram
	typeSocketStream
	typeSymbolicLink
)

// fdflags is preview1's `fdflags`. They are the guest's view: none of them is set on the host's open file
// description, which may be shared.
type fdflags uint16

const (
	flagAppend fdflags = 1 << iota
	flagDsync
	flagNonblock
	flagRsync
	flagSync
	flagsEnd
)

// descriptor is what a guest's file descriptor stands for: exactly one of dir, file and sock is set.
type descriptor struct {
	kind       filetype
	base       rights
	inheriting rights
	flags      fdflags
	readOnly   bool // on a tree that refuses changes

	dir  *tree.Dir
	file *stream.File
	sock *sock.Socket

	preopen  *string // the name of a preopened directory
	listener bool    // a preopened listener
	wait     *wait.Handle

	connection *exchange.Tracker // of an accepted connection, which counts in System.connections
	active     time.Time         // of a connection: when the last bytes moved
	quiet      bool              // of a connection: ended by a drain

	waited bool // a read of it was told to wait for others, and the next one is not

	// How long a blocking call of a socket waits; 0 means for ever.
	recvTimeout, sendTimeout time.Duration
}

// fd is the host's descriptor.
func (d *descriptor) fd() int {
	switch {
	case d.dir != nil:
		return d.dir.FD()
	case d.sock != nil:
		return d.sock.FD()
	}
	return d.file.FD()
}

func (d *descriptor) close() error {
	switch {
	case d.dir != nil:
		return d.dir.Close()
	case d.sock != nil:
		return d.sock.Close()
	}
	return d.file.Close()
}

func (d *descriptor) available() uint64 {
	switch {
	case d.sock != nil:
		return d.sock.Available()
	case d.file != nil:
		return d.file.Available()
	}
	return 0
}

// writeFlags are the guest's flags as pwritev2 takes them, per call.
func (d *descriptor) writeFlags() int {
	flags := 0
	if d.flags&flagAppend != 0 {
		flags |= unix.RWF_APPEND
	}
	switch {
	case d.flags&(flagSync|flagRsync) != 0:
		flags |= unix.RWF_SYNC
	case d.flags&flagDsync != 0:
		flags |= unix.RWF_DSYNC
	}
	return flags
}

// typeOfMode translates a file mode; sockets need a look at the socket itself.
func typeOfMode(mode uint32) filetype {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return typeRegularFile
	case unix.S_IFDIR:
		return typeDirectory
	case unix.S_IFLNK:
		return typeSymbolicLink
	case unix.S_IFCHR:
		return typeCharacterDevice
	case unix.S_IFBLK:
		return typeBlockDevice
	case unix.S_IFSOCK:
		return typeSocketStream
	}
	return typeUnknown
}

func socketDescriptor(s *sock.Socket) *descriptor {
	d := &descriptor{kind: typeSocketDgram, base: rightsSocket, sock: s}
	if s.Stream() {
		d.kind = typeSocketStream
		d.base |= rightSockAccept
		d.inheriting = rightsSocket
	}
	return d
}
