package stream

import (
	"golang.org/x/sys/unix"
)

// pumpPiece is how much one terminal write takes from the guest's memory.
const pumpPiece = 4096

// pump writes to a terminal in a goroutine of its own. A terminal that says it is ready may still
// block a write longer than its room; there is no call that avoids it, so that the guest's goroutine must
// not be the one that is stuck. The goroutine owns the descriptor and ends after stop.
type pump struct {
	work chan []byte
	done chan result
	busy bool // a write was given up and is still under way
}

type result struct {
	n   int
	err error
}

func newPump(fd int) *pump {
	p := &pump{work: make(chan []byte), done: make(chan result, 1)}
	go func() {
		defer func() { _ = unix.Close(fd) }()
		for b := range p.work {
			n, err := unix.Write(fd, b)
			p.done <- result{n, err}
		}
	}()
	return p
}

// write copies at most pumpPiece bytes, since an abandoned write must not look at guest memory.
func (p *pump) write(b []byte, interrupted <-chan struct{}) (int, error) {
	if p.busy {
		return 0, unix.EAGAIN
	}
	select {
	case p.work <- append([]byte(nil), b[:min(len(b), pumpPiece)]...):
	case <-interrupted:
		return 0, unix.ECANCELED
	}
	select {
	case r := <-p.done:
		return r.n, r.err
	case <-interrupted:
		p.busy = true
		return 0, unix.ECANCELED
	}
}

func (p *pump) stop() { close(p.work) }
