package wasi

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clocks of preview1.
const (
	clockRealtime uint32 = iota
	clockMonotonic
	clockProcessCPU
	clockThreadCPU
)

// startClock fixes where the guest's monotonic clock stands. It goes on from the host's, since some
// guests take 0 for "not set".
func (s *System) startClock() {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) == nil {
		s.startedAt = t.Nano()
	}
	s.startedAt = max(s.startedAt, 1)
	s.started = time.Now()
}

func (s *System) monotonic() int64 {
	return s.startedAt + int64(time.Since(s.started))
}

// cpuClock is the kernel's clock for a guest's CPU clock: the guest is alone in its process, and has
// one thread.
func cpuClock(id uint32) (int32, bool) {
	switch id {
	case clockProcessCPU, clockThreadCPU:
		return unix.CLOCK_PROCESS_CPUTIME_ID, true
	}
	return 0, false
}

func (s *System) clockResGet(p []uint64) errno {
	var clock int32
	switch id := uint32(p[0]); id {
	case clockRealtime:
		clock = unix.CLOCK_REALTIME
	case clockMonotonic:
		clock = unix.CLOCK_MONOTONIC
	default:
		var ok bool
		if clock, ok = cpuClock(id); !ok {
			return eInval
		}
	}
	var t unix.Timespec
	if err := unix.ClockGetres(clock, &t); err != nil {
		return errnoOf(err)
	}
	return s.putU64(uint32(p[1]), uint64(max(t.Nano(), 1)))
}

// clockTimeGet ignores the precision: no clock is cheaper for being coarse.
func (s *System) clockTimeGet(p []uint64) errno {
	var now int64
	switch id := uint32(p[0]); id {
	case clockRealtime:
		now = time.Now().UnixNano()
	case clockMonotonic:
		now = s.monotonic()
	default:
		clock, ok := cpuClock(id)
		if !ok {
			return eInval
		}
		var t unix.Timespec
		if err := unix.ClockGettime(clock, &t); err != nil {
			return errnoOf(err)
		}
		now = t.Nano()
	}
	return s.putU64(uint32(p[2]), uint64(now))
}
