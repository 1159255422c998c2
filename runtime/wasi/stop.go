package wasi

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// Interrupt ends the guest: the host call it is blocked in, or else the next one it makes, panics
// with a sys.ExitError of this code. Only the first call counts. A guest that makes no host call has to be
// stopped by other means.
func (s *System) Interrupt(code uint32) {
	s.mark(code)
	if s.poller != nil {
		s.poller.Interrupt()
	}
}

// mark sets the code before it lets host calls see that they have to end.
func (s *System) mark(code uint32) {
	if s.exitCode.CompareAndSwap(0, code+1) {
		s.cancel()
	}
}

// checkStop ends the guest if Interrupt was called.
func (s *System) checkStop() {
	if s.ctx.Err() != nil {
		s.exit(s.exitCode.Load() - 1)
	}
}

// exit leaves the guest for good.
func (s *System) exit(code uint32) {
	if s.module != nil {
		// The error is about other instances' close hooks; the guest ends in any case.
		_ = s.module.CloseWithExitCode(context.Background(), code)
	}
	panic(sys.NewExitError(code))
}

// await parks the guest until d is ready for e, and returns early (success) when conditions changed. A
// socket with a timeout waits no longer than that, and then says EAGAIN.
func (s *System) await(d *descriptor, e wait.Events) errno {
	timeout := d.recvTimeout
	if e == wait.Write {
		timeout = d.sendTimeout
	}
	for began := time.Now(); ; {
		s.poller.Begin()
		if err := s.want(d, e); err != nil {
			return errnoOf(err)
		}
		if timeout <= 0 {
			return s.park(wait.Forever)
		}
		left := timeout - time.Since(began)
		if left <= 0 {
			return eAgain
		}
		if e := s.park(left); e != success || d.wait != nil && d.wait.Ready(s.poller) != 0 {
			return e
		}
	}
}

// want adds an interest in d to the poller's round.
func (s *System) want(d *descriptor, e wait.Events) error {
	if d.sock != nil && d.sock.Listening() && s.draining.Load() {
		return nil
	}
	if d.wait == nil {
		d.wait = s.poller.Add(d.fd())
	}
	return s.poller.Want(d.wait, e)
}

// park waits for the poller's round, or shorter.
func (s *System) park(timeout time.Duration) errno {
	if s.draining.Load() && s.connections.Load() > 0 {
		s.endQuiet()
		if timeout == wait.Forever || timeout > drainLook {
			timeout = drainLook
		}
	}
	_, err := s.poller.Wait(timeout)
	switch {
	case err == nil || errors.Is(err, wait.ErrWoken):
		return success
	case errors.Is(err, wait.ErrInterrupted):
		s.checkStop()
		return errnoOf(unix.EINTR)
	}
	return errnoOf(err)
}
