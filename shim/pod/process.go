package pod

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/stdio"
)

// Exit is how a process ended.
type Exit struct {
	Code uint32
	At   time.Time
	// OOM is true when memory ran out: the kernel's limit or the guest's ceiling.
	OOM bool
}

// Process is a container's first process or one that was executed beside it. Its methods are safe for
// concurrent use.
type Process struct {
	// ID is the exec id; empty for a container's first process.
	ID string
	// IO is where the streams go.
	IO stdio.Config

	mu       sync.Mutex
	state    State           // guarded by mu
	starting bool            // guarded by mu: the engine of an exec is on its way
	exec     *execProcess    // what an exec runs; nil for the first process
	engine   *engine.Process // guarded by mu; nil for the pause container and an exec that was not started
	streams  *stdio.Streams  // guarded by mu
	size     *size           // guarded by mu: of the terminal, asked for before there was one
	noInput  bool            // guarded by mu: CloseInput was called before there was an input
	pid      int             // guarded by mu
	exit     Exit            // set before done is closed
	done     chan struct{}
}

type size struct{ width, height uint16 }

func newProcess(id string, io stdio.Config) *Process {
	return &Process{ID: id, IO: io, done: make(chan struct{})}
}

// State is the process's state.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Pid is the process's id on the host; 0 for an exec that was not started.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Done is closed when the process has ended, or was deleted without ever having been one.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how it ended; valid after Done. Its time is zero for an exec that was deleted before it was started.
func (p *Process) Exit() Exit { return p.exit }

// Wait waits for the end of the process; NotFound if it is deleted before it was started.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		if p.exit.At.IsZero() {
			return Exit{}, fmt.Errorf("wait: process was deleted before it was started: %w", errdefs.ErrNotFound)
		}
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

// start lets a loaded guest run.
func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.start(); err != nil {
		return err
	}
	if p.engine == nil {
		return nil
	}
	if err := p.engine.Run(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition) // it has ended, and its exit is about to be told
	}
	return nil
}

// begin claims an exec for one start; adopt or abandon follows.
func (p *Process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starting {
		return fmt.Errorf("start: process is being started: %w", errdefs.ErrFailedPrecondition)
	}
	if p.state != Created {
		return wrong("start", p.state, Created)
	}
	p.starting = true
	return nil
}

// abandon gives a start up; the exec may be started again.
func (p *Process) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting = false
}

// adopt makes e the process's engine, with streams as its own. What was asked of the streams before there were any
// is done now.
func (p *Process) adopt(e *engine.Process, streams *stdio.Streams) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine, p.streams, p.pid, p.starting = e, streams, e.Pid(), false
	if p.size != nil {
		_ = streams.Resize(p.size.width, p.size.height) // a size is not worth a process
	}
	if p.noInput {
		streams.CloseInput()
	}
}

// end records how the process ended.
func (p *Process) end(x Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.exit() != nil {
		return // it has ended before; only a pause container is told twice
	}
	if p.streams != nil {
		p.streams.Finish()
	}
	p.exit = x
	close(p.done)
}

// kill delivers a signal as a Wasm guest can take it: SIGKILL ends it at once; one whose default action
// ends a process asks it to stop within grace; SIGSTOP and SIGCONT work; the rest is ignored, as is 0.
func (p *Process) kill(sig syscall.Signal, grace time.Duration) error {
	if err := checkSignal(sig); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Stopped || p.state == Deleted {
		return fmt.Errorf("kill: process has ended: %w", errdefs.ErrNotFound)
	}
	if p.engine == nil {
		return fmt.Errorf("kill: process was not started: %w", errdefs.ErrFailedPrecondition)
	}
	switch sig {
	case 0, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		return nil
	case syscall.SIGKILL:
		p.engine.Kill()
		return nil
	case syscall.SIGSTOP, syscall.SIGCONT:
		return p.engine.Signal(sig)
	default:
		return p.engine.Stop(sig, grace)
	}
}

// checkSignal refuses numbers that no signal of Linux has (signal(7)).
func checkSignal(sig syscall.Signal) error {
	if sig < 0 || sig > 64 {
		return fmt.Errorf("kill: %d is no signal: %w", int(sig), errdefs.ErrInvalidArgument)
	}
	return nil
}

// Resize sets the size of the process's terminal; that of an exec that was not started is kept for it.
func (p *Process) Resize(width, height uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.live("resize terminal"); err != nil {
		return err
	}
	if !p.IO.Terminal {
		return fmt.Errorf("resize terminal: the process has none (create it with a terminal): %w", errdefs.ErrFailedPrecondition)
	}
	if p.streams == nil {
		p.size = &size{width, height}
		return nil
	}
	return p.streams.Resize(width, height)
}

// CloseInput ends the process's stdin, that of an exec that was not started as soon as it has one.
func (p *Process) CloseInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noInput = true
	if p.streams != nil {
		p.streams.CloseInput()
	}
}

// remove moves the process to Deleted and lets its streams go.
func (p *Process) remove() error {
	p.mu.Lock()
	switch before := p.state; {
	case before == Deleted:
		p.mu.Unlock()
		return fmt.Errorf("delete: process was deleted: %w", errdefs.ErrNotFound)
	case p.starting:
		p.mu.Unlock()
		return fmt.Errorf("delete: process is being started: %w", errdefs.ErrFailedPrecondition)
	default:
		if err := p.state.remove(); err != nil {
			p.mu.Unlock()
			return err
		}
		if before == Created {
			close(p.done)
		}
	}
	streams := p.streams
	p.mu.Unlock()
	if streams != nil {
		streams.Close()
	}
	return nil
}
