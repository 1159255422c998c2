package wasi

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// streamWith finds a descriptor that has the right to read or write. POSIX has a word of its own for directories, and
// programs look for it.
func (s *System) streamWith(fd uint64, need rights) (*descriptor, errno) {
	if d := s.table.get(uint32(fd)); d != nil && d.dir != nil {
		return nil, eIsdir
	}
	return s.fdWith(fd, need)
}

// transfer finds the buffers of a read or write, and makes sure that there is a place for its count.
func (s *System) transfer(iovs, n, count uint64) ([][]byte, errno) {
	bufs, e := s.vectors(uint32(iovs), uint32(n))
	if e == success && !s.writable(uint32(count), 4) {
		e = eFault
	}
	return bufs, e
}

func (s *System) fdRead(p []uint64) errno {
	d, e := s.streamWith(p[0], rightFdRead)
	if e != success {
		return e
	}
	bufs, e := s.transfer(p[1], p[2], p[3])
	if e != success {
		return e
	}
	n, e := s.read(d, bufs)
	if e != success {
		return e
	}
	return s.putU32(uint32(p[3]), uint32(n))
}

// read waits for something to read unless the guest asked not to.
func (s *System) read(d *descriptor, bufs [][]byte) (n int, e errno) {
	if s.othersTurn(d) {
		return 0, eAgain
	}
	for {
		var err error
		if d.sock != nil {
			n, _, _, err = d.sock.Recv(bufs, 0)
			d.received(bufs, n)
		} else {
			n, err = d.file.Read(bufs)
		}
		if !errors.Is(err, unix.EAGAIN) || d.flags&flagNonblock != 0 {
			return n, errnoOf(err)
		}
		if e := s.await(d, wait.Read); e != success {
			return 0, e
		}
	}
}

func (s *System) fdWrite(p []uint64) errno {
	d, e := s.streamWith(p[0], rightFdWrite)
	if e != success {
		return e
	}
	bufs, e := s.transfer(p[1], p[2], p[3])
	if e != success {
		return e
	}
	n, e := s.write(d, bufs)
	if e != success {
		return e
	}
	return s.putU32(uint32(p[3]), uint32(n))
}

// write writes all of it, as POSIX does for a blocking descriptor, or what fits if the guest asked not to
// wait. An error after the first byte is left for the next call to find.
func (s *System) write(d *descriptor, bufs [][]byte) (int, errno) {
	// A count must fit the guest's result.
	if total(bufs) > math.MaxInt32 {
		bufs = bufs[:1]
		bufs[0] = bufs[0][:min(len(bufs[0]), math.MaxInt32)]
	}
	done := 0
	for {
		var n int
		var err error
		if d.sock != nil {
			n, err = d.sock.Send(bufs, nil)
			d.sent(bufs, n)
		} else {
			n, err = d.file.Write(bufs, d.writeFlags(), s.ctx.Done())
		}
		s.checkStop()
		done += n
		nonblock := d.flags&flagNonblock != 0
		switch {
		case err == nil:
			if bufs = advance(bufs, n); len(bufs) == 0 || nonblock || n == 0 {
				return done, success
			}
		case errors.Is(err, unix.EAGAIN) && !nonblock:
			if e := s.await(d, wait.Write); e != success {
				return done, e
			}
		case done > 0:
			return done, success
		default:
			return 0, errnoOf(err)
		}
	}
}

func (s *System) fdPread(p []uint64) errno {
	d, bufs, e := s.positioned(p, rightFdRead|rightFdSeek)
	if e != success {
		return e
	}
	n, err := d.file.ReadAt(bufs, int64(p[3]))
	if err != nil {
		return errnoOf(err)
	}
	return s.putU32(uint32(p[4]), uint32(n))
}

func (s *System) fdPwrite(p []uint64) errno {
	d, bufs, e := s.positioned(p, rightFdWrite|rightFdSeek)
	if e != success {
		return e
	}
	n, err := d.file.WriteAt(bufs, int64(p[3]), d.writeFlags())
	if err != nil {
		return errnoOf(err)
	}
	return s.putU32(uint32(p[4]), uint32(n))
}

func (s *System) positioned(p []uint64, need rights) (*descriptor, [][]byte, errno) {
	d := s.table.get(uint32(p[0]))
	switch {
	case d == nil:
		return nil, nil, eBadf
	case d.dir != nil:
		return nil, nil, eIsdir
	case d.file == nil || !d.file.Seekable():
		return nil, nil, eSpipe
	case d.base&need != need:
		return nil, nil, eNotcapable
	case p[3] > math.MaxInt64:
		return nil, nil, eInval
	}
	bufs, e := s.transfer(p[1], p[2], p[4])
	return d, bufs, e
}

// fdSeek counts `whence` as Linux does.
func (s *System) fdSeek(p []uint64) errno { return s.seekFrom(p, uint32(p[2])) }

func (s *System) seekFrom(p []uint64, whence uint32) errno {
	if whence > 2 {
		return eInval
	}
	need := rightFdSeek
	if whence == unix.SEEK_CUR && p[1] == 0 {
		need = rightFdTell
	}
	return s.seek(p[0], int64(p[1]), int(whence), uint32(p[3]), need)
}

func (s *System) fdTell(p []uint64) errno {
	return s.seek(p[0], 0, unix.SEEK_CUR, uint32(p[1]), rightFdTell)
}

func (s *System) seek(fd uint64, offset int64, whence int, result uint32, need rights) errno {
	d := s.table.get(uint32(fd))
	switch {
	case d == nil:
		return eBadf
	case d.dir != nil:
		return eIsdir
	case d.file == nil || !d.file.Seekable():
		return eSpipe
	case d.base&(need|rightFdSeek) == 0:
		return eNotcapable
	case !s.writable(result, 8):
		return eFault
	}
	at, err := unix.Seek(d.fd(), offset, whence)
	if err != nil {
		return errnoOf(err)
	}
	return s.putU64(result, uint64(at))
}
