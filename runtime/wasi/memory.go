package wasi

import (
	"encoding/binary"
	"math"

	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"
)

// Limits of what one call takes from the guest.
const (
	// maxVectors is how many iovecs one call uses (Linux's IOV_MAX); what comes after them is left for
	// the guest's next call, as with any short read or write.
	maxVectors = 1024
	// maxPath is Linux's PATH_MAX without the NUL.
	maxPath = unix.PathMax - 1
)

// enter begins a host call. Of an i32 on wazero's stack only the lower half means anything: functions
// convert with uint32 before they look.
func (s *System) enter(m api.Module) {
	if m != s.module {
		s.module, s.memory = m, memoryOf(m)
	}
	s.checkStop()
}

// memoryOf is the module's memory or nil. wazero wraps a missing memory in an interface that is not nil
// and panics in every method, so it has to be tried.
func memoryOf(m api.Module) (mem api.Memory) {
	defer func() {
		if recover() != nil {
			mem = nil
		}
	}()
	mem = m.Memory()
	mem.Size()
	return mem
}

// view is n bytes of guest memory at p. It is valid for the call, in which the guest does not run.
func (s *System) view(p, n uint32) ([]byte, bool) {
	if s.memory == nil {
		return nil, false
	}
	return s.memory.Read(p, n)
}

func (s *System) putU16(p uint32, v uint16) errno {
	b, ok := s.view(p, 2)
	if !ok {
		return eFault
	}
	binary.LittleEndian.PutUint16(b, v)
	return success
}

func (s *System) putU32(p, v uint32) errno {
	b, ok := s.view(p, 4)
	if !ok {
		return eFault
	}
	binary.LittleEndian.PutUint32(b, v)
	return success
}

func (s *System) putU64(p uint32, v uint64) errno {
	b, ok := s.view(p, 8)
	if !ok {
		return eFault
	}
	binary.LittleEndian.PutUint64(b, v)
	return success
}

// writable reports whether results of n bytes fit at p; calls with effects ask first.
func (s *System) writable(p, n uint32) bool {
	_, ok := s.view(p, n)
	return ok
}

// vectors reads an array of iovecs. The result is scratch space, valid for the call.
func (s *System) vectors(p, n uint32) ([][]byte, errno) {
	if uint64(n)*8 > math.MaxUint32 {
		return nil, eFault
	}
	array, ok := s.view(p, n*8)
	if !ok {
		return nil, eFault
	}
	s.buffers = s.buffers[:0]
	for i := 0; i < len(array) && len(s.buffers) < maxVectors; i += 8 {
		b, ok := s.view(binary.LittleEndian.Uint32(array[i:]), binary.LittleEndian.Uint32(array[i+4:]))
		if !ok {
			return nil, eFault
		}
		if len(b) > 0 {
			s.buffers = append(s.buffers, b)
		}
	}
	return s.buffers, success
}

// path reads a path. The package tree checks its content.
func (s *System) path(p, n uint32) (string, errno) {
	if n > maxPath {
		return "", eNametoolng
	}
	b, ok := s.view(p, n)
	if !ok {
		return "", eFault
	}
	return string(b), success
}

// advance drops the first n bytes of buffers.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

func total(bufs [][]byte) uint64 {
	var n uint64
	for _, b := range bufs {
		n += uint64(len(b))
	}
	return n
}
