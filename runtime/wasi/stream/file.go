// Package stream reads and writes descriptors without ever blocking on them.
//
// A guest's standard streams are open file descriptions that the engine shares with others: a shell's
// terminal, a fifo that the shim holds open too. O_NONBLOCK is a flag of the description, so setting it
// would change the file under everybody's hands. Instead each call is made in a way that cannot block:
// sockets with MSG_DONTWAIT, pipes with RWF_NOWAIT (or after a look with poll, in pieces that fit),
// terminals after a look with poll, written by a goroutine of their own. Where a call would block it
// returns EAGAIN, and the caller parks.
package stream

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxVectors is Linux's IOV_MAX; what exceeds it is left for the next call.
const maxVectors = 1024

// File is one descriptor. Read and Write belong to one goroutine at a time.
type File struct {
	fd     int
	mode   uint32 // S_IFMT bits
	tty    bool
	nowait bool // RWF_NOWAIT may be tried
	pump   *pump
}

// Open takes over a descriptor of anything but a directory or a socket.
func Open(fd int, mode uint32) *File {
	f := &File{fd: fd, mode: mode & unix.S_IFMT}
	switch f.mode {
	case unix.S_IFCHR:
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		f.tty = err == nil
	case unix.S_IFIFO:
		f.nowait = true
	}
	return f
}

// FD is the descriptor, owned by the File.
func (f *File) FD() int { return f.fd }

// Terminal reports whether the file is a terminal.
func (f *File) Terminal() bool { return f.tty }

// Regular reports whether the file is a regular one.
func (f *File) Regular() bool { return f.mode == unix.S_IFREG }

// Seekable reports whether the file has a position.
func (f *File) Seekable() bool { return f.mode == unix.S_IFREG || f.mode == unix.S_IFBLK }

// Close closes the descriptor. A write to a stuck terminal that is still under way closes it when it
// returns.
func (f *File) Close() error {
	if f.pump != nil {
		f.pump.stop()
		return nil
	}
	return unix.Close(f.fd)
}

// Read reads what is there into the buffers, 0 at the end of the file, EAGAIN if nothing is there yet.
func (f *File) Read(bufs [][]byte) (int, error) {
	bufs = clip(bufs)
	for {
		n, err := f.read(bufs)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func (f *File) read(bufs [][]byte) (int, error) {
	if len(bufs) == 0 {
		return 0, nil
	}
	if f.nowait && !noPipeNowait.Load() {
		n, err := unix.Preadv2(f.fd, bufs, -1, unix.RWF_NOWAIT)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return n, err
		}
		noPipeNowait.Store(true)
	}
	if f.mayBlock() {
		if err := f.look(unix.POLLIN); err != nil {
			return 0, err
		}
	}
	if len(bufs) == 1 {
		return unix.Read(f.fd, bufs[0])
	}
	return unix.Readv(f.fd, bufs)
}

// Write writes as much as fits now; EAGAIN if nothing does. Flags are RWF_APPEND, RWF_SYNC and
// RWF_DSYNC and count for regular files only. interrupted ends the wait for a terminal.
func (f *File) Write(bufs [][]byte, flags int, interrupted <-chan struct{}) (int, error) {
	bufs = clip(bufs)
	for {
		n, err := f.write(bufs, flags, interrupted)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func (f *File) write(bufs [][]byte, flags int, interrupted <-chan struct{}) (int, error) {
	if len(bufs) == 0 {
		return 0, nil
	}
	switch {
	case f.Regular() && flags != 0:
		return unix.Pwritev2(f.fd, bufs, -1, flags)
	case f.tty:
		if err := f.look(unix.POLLOUT); err != nil {
			return 0, err
		}
		if f.pump == nil {
			f.pump = newPump(f.fd)
		}
		return f.pump.write(first(bufs), interrupted)
	case f.nowait:
		if !noPipeNowait.Load() {
			n, err := unix.Pwritev2(f.fd, bufs, -1, unix.RWF_NOWAIT)
			if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
				return n, err
			}
			noPipeNowait.Store(true)
		}
		if err := f.look(unix.POLLOUT); err != nil {
			return 0, err
		}
		// A pipe that is ready for writing takes this much without blocking (pipe(7)).
		piece := first(bufs)
		return unix.Write(f.fd, piece[:min(len(piece), pipeBuf)])
	case len(bufs) == 1:
		return unix.Write(f.fd, bufs[0])
	}
	return unix.Writev(f.fd, bufs)
}

// pipeBuf is PIPE_BUF.
const pipeBuf = 4096

// noPipeNowait is set once the kernel has refused RWF_NOWAIT for a pipe (before 6.4).
var noPipeNowait atomic.Bool

// ReadAt reads at an offset and leaves the position alone.
func (f *File) ReadAt(bufs [][]byte, offset int64) (int, error) {
	bufs = clip(bufs)
	for {
		n, err := unix.Preadv(f.fd, bufs, offset)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// WriteAt writes at an offset, also if the file appends, and leaves the position alone.
func (f *File) WriteAt(bufs [][]byte, offset int64, flags int) (int, error) {
	bufs = clip(bufs)
	for {
		n, err := unix.Pwritev2(f.fd, bufs, offset, flags&^unix.RWF_APPEND)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// mayBlock reports whether a plain read can wait for somebody.
func (f *File) mayBlock() bool {
	return f.tty || f.mode == unix.S_IFIFO
}

// look returns EAGAIN unless the descriptor is ready, or in a state that the coming call will report.
func (f *File) look(events int16) error {
	p := []unix.PollFd{{Fd: int32(f.fd), Events: events}}
	n, err := unix.Poll(p, 0)
	switch {
	case err != nil:
		return err
	case n == 0:
		return unix.EAGAIN
	}
	return nil
}

// Available is how many bytes can be read now; 0 if the file cannot tell.
func (f *File) Available() uint64 {
	if f.Regular() {
		var st unix.Stat_t
		at, err := unix.Seek(f.fd, 0, unix.SEEK_CUR)
		if err != nil || unix.Fstat(f.fd, &st) != nil || st.Size < at {
			return 0
		}
		return uint64(st.Size - at)
	}
	n, err := unix.IoctlGetInt(f.fd, unix.TIOCINQ)
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}

// Access is O_RDONLY, O_WRONLY or O_RDWR.
func Access(fd int) (int, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return 0, fmt.Errorf("get access mode: %w", err)
	}
	return flags & unix.O_ACCMODE, nil
}

func clip(bufs [][]byte) [][]byte {
	return bufs[:min(len(bufs), maxVectors)]
}

// first is the first buffer that is not empty.
func first(bufs [][]byte) []byte {
	for _, b := range bufs {
		if len(b) > 0 {
			return b
		}
	}
	return nil
}
