package wasi

import (
	"crypto/rand"
	"runtime"
)

// Signals of preview1 that do not end a process by default.
const (
	signalNone  = 0
	signalPipe  = 13
	signalChld  = 16
	signalCont  = 17
	signalStop  = 18
	signalTtou  = 21
	signalUrg   = 22
	signalPoll  = 28
	signalWinch = 27
	signalMax   = 30
)

func (s *System) procExit(p []uint64) errno {
	s.exit(uint32(p[0]))
	return success
}

// procRaise does what the signal's default action is, as preview1 has it (SIGPIPE is ignored): the guest cannot have
// another.
func (s *System) procRaise(p []uint64) errno {
	switch sig := uint32(p[0]); {
	case sig > signalMax:
		return eInval
	case sig == signalNone, sig == signalPipe, sig == signalChld, sig == signalCont, sig == signalUrg, sig == signalWinch:
		return success
	case sig >= signalStop && sig <= signalTtou:
		return eNotsup
	default:
		s.exit(128 + linuxSignal(sig))
		return success
	}
}

// linuxSignal has the number a shell would show; preview1 counts as Linux does up to SIGTERM.
func linuxSignal(sig uint32) uint32 {
	switch sig {
	case 23: // SIGXCPU
		return 24
	case 24: // SIGXFSZ
		return 25
	case 25: // SIGVTALRM
		return 26
	case 26: // SIGPROF
		return 27
	case signalPoll:
		return 29
	case 29: // SIGPWR
		return 30
	case signalMax: // SIGSYS
		return 31
	}
	return sig
}

func (s *System) schedYield([]uint64) errno {
	runtime.Gosched()
	return success
}

// randomPiece is how much randomness is made between two looks at whether to stop.
const randomPiece = 1 << 20

func (s *System) randomGet(p []uint64) errno {
	b, ok := s.view(uint32(p[0]), uint32(p[1]))
	if !ok {
		return eFault
	}
	for len(b) > 0 {
		s.checkStop()
		n := min(len(b), randomPiece)
		// Never fails: it ends the process rather than return bad randomness.
		_, _ = rand.Read(b[:n])
		b = b[n:]
	}
	return success
}
