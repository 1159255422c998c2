package wasi

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// fdWith finds a descriptor that has the right.
func (s *System) fdWith(fd uint64, need rights) (*descriptor, errno) {
	d := s.table.get(uint32(fd))
	switch {
	case d == nil:
		return nil, eBadf
	case d.base&need != need:
		return nil, eNotcapable
	}
	return d, success
}

// fileWith finds a descriptor of a file, pipe or the like. Directories have none of the rights to read
// or write, so what is left to refuse are sockets.
func (s *System) fileWith(fd uint64, need rights) (*descriptor, errno) {
	d, e := s.fdWith(fd, need)
	if e == success && d.file == nil {
		if d.dir != nil {
			return nil, eIsdir
		}
		return nil, eSpipe
	}
	return d, e
}

func (s *System) fdClose(p []uint64) errno {
	d := s.table.remove(uint32(p[0]))
	if d == nil {
		return eBadf
	}
	return errnoOf(s.release(d))
}

// fdRenumber moves a descriptor onto another open one, which is closed.
func (s *System) fdRenumber(p []uint64) errno {
	from, to := uint32(p[0]), uint32(p[1])
	if s.table.get(from) == nil || s.table.get(to) == nil {
		return eBadf
	}
	if from == to {
		return success
	}
	old := s.table.slots[to]
	s.table.slots[to] = s.table.remove(from)
	// As with dup2, what closing says is lost.
	_ = s.release(old)
	return success
}

// Sizes and layouts of preview1's records.
const (
	fdstatSize   = 24
	filestatSize = 64
)

func (s *System) fdFdstatGet(p []uint64) errno {
	d, e := s.fdWith(p[0], 0)
	if e != success {
		return e
	}
	b, ok := s.view(uint32(p[1]), fdstatSize)
	if !ok {
		return eFault
	}
	clear(b)
	b[0] = byte(d.kind)
	binary.LittleEndian.PutUint16(b[2:], uint16(d.flags))
	binary.LittleEndian.PutUint64(b[8:], uint64(d.base))
	binary.LittleEndian.PutUint64(b[16:], uint64(d.inheriting))
	return success
}

func (s *System) fdFdstatSetFlags(p []uint64) errno {
	if uint32(p[1]) >= uint32(flagsEnd) {
		return eInval
	}
	d, e := s.fdWith(p[0], rightFdFdstatSetFlags)
	if e != success {
		return e
	}
	d.flags = fdflags(p[1])
	if uint32(p[0]) <= 2 && d.flags&flagNonblock != 0 {
		s.unblockListeners()
	}
	return success
}

// unblockListeners makes the preopened listeners non-blocking. Go's net.FileListener takes a listener as it
// is, and one that blocks would stop all goroutines of the guest; a server in C or Rust without an event
// loop needs one that blocks. What tells them apart is that Go's runtime, like any that multiplexes, makes
// its standard streams non-blocking when it starts.
func (s *System) unblockListeners() {
	for _, d := range s.table.slots {
		if d != nil && d.listener {
			d.flags |= flagNonblock
		}
	}
}

func (s *System) fdFdstatSetRights(p []uint64) errno {
	d, e := s.fdWith(p[0], 0)
	if e != success {
		return e
	}
	base, inheriting := rights(p[1]), rights(p[2])
	if base&^d.base != 0 || inheriting&^d.inheriting != 0 {
		return eNotcapable
	}
	d.base, d.inheriting = base, inheriting
	return success
}

func (s *System) fdFilestatGet(p []uint64) errno { return s.fdFilestat(p, s.putFilestat) }

// filestatWriter writes a `filestat` record to the guest's memory.
type filestatWriter func(p uint32, st *unix.Stat_t, kind filetype) errno

func (s *System) fdFilestat(p []uint64, put filestatWriter) errno {
	d, e := s.fdWith(p[0], rightFdFilestatGet)
	if e != success {
		return e
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return errnoOf(err)
	}
	return put(uint32(p[1]), &st, d.kind)
}

func (s *System) putFilestat(p uint32, st *unix.Stat_t, kind filetype) errno {
	b, ok := s.view(p, filestatSize)
	if !ok {
		return eFault
	}
	clear(b)
	putNode(b, st, kind)
	binary.LittleEndian.PutUint64(b[24:], uint64(st.Nlink)) //nolint:unconvert // 32 bits wide on arm64
	putSizeAndTimes(b[32:], st)
	return success
}

// putNode writes the beginning of a filestat, 17 bytes, and putSizeAndTimes its last 32.
func putNode(b []byte, st *unix.Stat_t, kind filetype) {
	binary.LittleEndian.PutUint64(b, st.Dev)
	binary.LittleEndian.PutUint64(b[8:], st.Ino)
	b[16] = byte(kind)
}

func putSizeAndTimes(b []byte, st *unix.Stat_t) {
	for i, v := range []int64{st.Size, st.Atim.Nano(), st.Mtim.Nano(), st.Ctim.Nano()} {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
}

func (s *System) fdFilestatSetSize(p []uint64) errno {
	d, e := s.fileWith(p[0], rightFdFilestatSetSize)
	switch {
	case e != success:
		return e
	case p[1] > math.MaxInt64:
		return eInval
	case d.readOnly:
		return eRofs
	}
	return errnoOf(unix.Ftruncate(d.fd(), int64(p[1])))
}

func (s *System) fdFilestatSetTimes(p []uint64) errno {
	d, e := s.fdWith(p[0], rightFdFilestatSetTimes)
	if e != success {
		return e
	}
	times, e := timesOf(p[1], p[2], uint32(p[3]))
	switch {
	case e != success:
		return e
	case d.readOnly:
		// The kernel would let the file's owner do this through a read-only descriptor.
		return eRofs
	}
	return errnoOf(unix.UtimesNanoAt(d.fd(), "", times[:], unix.AT_EMPTY_PATH))
}

// timesOf translates preview1's times and `fstflags` for utimensat.
func timesOf(atim, mtim uint64, flags uint32) (times [2]unix.Timespec, e errno) {
	if flags&^15 != 0 || flags&3 == 3 || flags&12 == 12 {
		return times, eInval
	}
	for i, v := range []uint64{atim, mtim} {
		switch flags >> (2 * i) & 3 {
		case 0:
			times[i].Nsec = unix.UTIME_OMIT
		case 1:
			times[i].Sec, times[i].Nsec = int64(v/1e9), int64(v%1e9)
		case 2:
			times[i].Nsec = unix.UTIME_NOW
		}
	}
	return times, success
}

func (s *System) fdAdvise(p []uint64) errno {
	d, e := s.fileWith(p[0], rightFdAdvise)
	if e != success {
		return e
	}
	// preview1 and Linux disagree on the numbers from the second on.
	advice := [...]int{unix.FADV_NORMAL, unix.FADV_SEQUENTIAL, unix.FADV_RANDOM, unix.FADV_WILLNEED, unix.FADV_DONTNEED, unix.FADV_NOREUSE}
	if uint32(p[3]) >= uint32(len(advice)) || p[1] > math.MaxInt64 || p[2] > math.MaxInt64 {
		return eInval
	}
	return errnoOf(unix.Fadvise(d.fd(), int64(p[1]), int64(p[2]), advice[uint32(p[3])]))
}

func (s *System) fdAllocate(p []uint64) errno {
	d, e := s.fileWith(p[0], rightFdAllocate)
	switch {
	case e != success:
		return e
	case p[1] > math.MaxInt64 || p[2] > math.MaxInt64:
		return eInval
	}
	return errnoOf(unix.Fallocate(d.fd(), 0, int64(p[1]), int64(p[2])))
}

func (s *System) fdSync(p []uint64) errno {
	d, e := s.fdWith(p[0], rightFdSync)
	if e != success {
		return e
	}
	return errnoOf(unix.Fsync(d.fd()))
}

func (s *System) fdDatasync(p []uint64) errno {
	d, e := s.fdWith(p[0], rightFdDatasync)
	if e != success {
		return e
	}
	return errnoOf(unix.Fdatasync(d.fd()))
}

func (s *System) fdPrestatGet(p []uint64) errno {
	d, e := s.prestat(p[0])
	if e != success {
		return e
	}
	b, ok := s.view(uint32(p[1]), 8)
	if !ok {
		return eFault
	}
	clear(b)
	if d.listener {
		// A tag that no libc knows: their loops over the preopens go on behind it, where an error would
		// end the loop (EBADF) or the program (any other).
		b[0] = 1
		return success
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(*d.preopen)))
	return success
}

func (s *System) prestat(fd uint64) (*descriptor, errno) {
	d, e := s.fdWith(fd, 0)
	if e == success && d.preopen == nil && !d.listener {
		return nil, eBadf
	}
	return d, e
}

func (s *System) fdPrestatDirName(p []uint64) errno {
	d, e := s.prestat(p[0])
	if e != success {
		return e
	}
	if d.preopen == nil {
		return eNotdir
	}
	if uint32(p[2]) < uint32(len(*d.preopen)) {
		return eNametoolng
	}
	b, ok := s.view(uint32(p[1]), uint32(len(*d.preopen)))
	if !ok {
		return eFault
	}
	copy(b, *d.preopen)
	return success
}
