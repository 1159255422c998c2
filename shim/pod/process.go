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

	mu      sync.Mutex
	state   State           // guarded by mu
	exec    *execProcess    // what an exec runs; nil for the first process
	engine  *engine.Process // guarded by mu; nil for the pause container and an exec that was not started
	streams *stdio.Streams  // guarded by mu
	pid     int             // guarded by mu
	exit    Exit            // set before done is closed
	done    chan struct{}
}

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

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how it ended; valid after Done.
func (p *Process) Exit() Exit { return p.exit }

// Wait waits for the end of the process.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
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
	return p.engine.Run()
}

// adopt makes e the process's engine, with streams as its own.
func (p *Process) adopt(e *engine.Process, streams *stdio.Streams) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine, p.streams, p.pid = e, streams, e.Pid()
}

// end records how the process ended.
func (p *Process) end(x Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.exit() != nil {
		return // it was deleted before it was started
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

// Resize sets the size of the process's terminal.
func (p *Process) Resize(width, height uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.live("resize terminal"); err != nil {
		return err
	}
	if p.streams == nil {
		return nil // an exec gets its size again after its start
	}
	return p.streams.Resize(width, height)
}

// CloseInput ends the process's stdin.
func (p *Process) CloseInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams != nil {
		p.streams.CloseInput()
	}
}

// remove moves the process to Deleted and lets its streams go.
func (p *Process) remove() error {
	p.mu.Lock()
	if err := p.state.remove(); err != nil {
		p.mu.Unlock()
		return err
	}
	streams := p.streams
	p.mu.Unlock()
	if streams != nil {
		streams.Close()
	}
	return nil
}
