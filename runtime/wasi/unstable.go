package wasi

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Snapshot 0 differs from preview1 in four functions and the records they read and write
// (github.com/WebAssembly/WASI, legacy/preview0). Everything else, also WasmEdge's sockets, is as in preview1.
var unstable = map[string][]variant{
	"fd_seek":           {{"iIii", (*System).fdSeekUnstable}},
	"fd_filestat_get":   {{"ii", (*System).fdFilestatGetUnstable}},
	"path_filestat_get": {{"iiiii", (*System).pathFilestatGetUnstable}},
	"poll_oneoff":       {{"iiii", (*System).pollOneoffUnstable}},
}

// unstableFilestatSize is the size of a `filestat`, whose count of links has 32 bits.
const unstableFilestatSize = 56

// unstableSubscription has a name for each clock, which nobody uses, before what preview1 has.
var unstableSubscription = subscriptionLayout{size: 56, clock: 24, timeout: 32, flags: 48}

// fdSeekUnstable translates `whence`, which counted cur, end, set.
func (s *System) fdSeekUnstable(p []uint64) errno {
	whence := [...]uint32{unix.SEEK_CUR, unix.SEEK_END, unix.SEEK_SET}
	if uint32(p[2]) >= uint32(len(whence)) {
		return eInval
	}
	return s.seekFrom(p, whence[uint32(p[2])])
}

func (s *System) fdFilestatGetUnstable(p []uint64) errno {
	return s.fdFilestat(p, s.putFilestatUnstable)
}

func (s *System) pathFilestatGetUnstable(p []uint64) errno {
	return s.pathFilestat(p, s.putFilestatUnstable)
}

func (s *System) putFilestatUnstable(p uint32, st *unix.Stat_t, kind filetype) errno {
	b, ok := s.view(p, unstableFilestatSize)
	if !ok {
		return eFault
	}
	clear(b)
	putNode(b, st, kind)
	binary.LittleEndian.PutUint32(b[20:], uint32(st.Nlink))
	putSizeAndTimes(b[24:], st)
	return success
}

func (s *System) pollOneoffUnstable(p []uint64) errno { return s.poll(p, unstableSubscription) }
