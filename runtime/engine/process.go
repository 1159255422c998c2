package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wire"
)

const (
	// killDelay is how long an engine may take to end by itself after the end of a stop's grace, or after it said that its
	// guest has ended.
	killDelay = time.Second
	// limitDelay is how long a new memory ceiling is waited for. A frozen engine hears of it when it goes on.
	limitDelay = time.Second
	// maxGrace keeps sums of times from overflowing.
	maxGrace = 365 * 24 * time.Hour
	// backlog is how many messages, or answers, may be outstanding of an engine that does not read.
	backlog = 16
)

var errDeaf = errors.New("engine does not listen")

// Exit is how an engine ended.
type Exit struct {
	// Code is the guest's exit code, 128+signal, or 137 when memory ran out.
	Code uint32
	// OOM is true when the guest died of its memory ceiling. The kernel's own out-of-memory kill is
	// not seen here; the cgroup knows it.
	OOM bool
	At  time.Time
}

// Process is one engine process. Its methods are safe for concurrent use, and none but Load and SetMemory waits for the
// engine. It ends itself when its guest ends; nobody has to close it.
type Process struct {
	process *os.Process // signals through a pidfd, so never a stranger
	control *os.File
	outbox  chan letter

	mu       sync.Mutex
	stopped  syscall.Signal    // guarded by mu: of the first Stop
	killed   bool              // guarded by mu: Kill was called
	ended    bool              // guarded by mu
	failsafe *time.Timer       // guarded by mu: kills an engine that is overdue
	due      time.Time         // guarded by mu: when failsafe fires
	said     *wire.Exit        // guarded by mu: what the engine said of its guest's end
	limits   []chan<- struct{} // guarded by mu: of SetMemory's calls that the engine has not answered, oldest first

	ready  chan error // receives at least one value by the end: nil, or why the guest cannot run
	done   chan struct{}
	status Exit // set before done is closed
}

func newProcess(process *os.Process, control *os.File, wait func() int) *Process {
	p := &Process{process: process, control: control, outbox: make(chan letter, backlog),
		ready: make(chan error, 1), done: make(chan struct{})}
	go p.run(wait)
	return p
}

// run owns the process until it is gone.
func (p *Process) run(wait func() int) {
	var talk sync.WaitGroup
	gone := make(chan struct{})
	talk.Go(func() { p.speak(gone) })
	talk.Go(p.listen)
	status := wait()
	at := time.Now()
	close(gone)
	// All that the engine said is in the socket by now, and then comes its end; unless it gave its own end to another
	// process.
	_ = p.control.SetDeadline(at.Add(killDelay)) // fails on a closed file only
	talk.Wait()

	p.mu.Lock()
	p.ended = true
	if p.failsafe != nil {
		p.failsafe.Stop()
	}
	p.status = p.verdict(status, at)
	p.control.Close()
	p.mu.Unlock()
	p.answer(fmt.Errorf("load guest: engine %s before its guest was loaded", describe(status)))
	close(p.done)
}

// verdict joins what the kernel and the engine say of the end. p.mu is held.
func (p *Process) verdict(status int, at time.Time) Exit {
	e := Exit{Code: uint32(status), At: at}
	const sigkill = 128 + int(syscall.SIGKILL)
	switch {
	case p.killed && status == sigkill:
	case p.said != nil:
		e.Code, e.OOM = p.said.Code, p.said.OOM
	case p.stopped != 0 && status == sigkill:
		// The stop's own failsafe killed it.
		e.Code = uint32(128 + p.stopped)
	}
	if e.OOM {
		e.Code = uint32(sigkill)
	}
	return e
}

func describe(status int) string {
	if status <= 128 {
		return fmt.Sprintf("ended with status %d", status)
	}
	s := syscall.Signal(status - 128)
	hint := ""
	if s == syscall.SIGKILL {
		hint = "; the kernel does that too when memory runs out"
	}
	return fmt.Sprintf("was ended by %s (%v%s)", unix.SignalName(s), s, hint)
}

// answer resolves Ready; only the first answer counts.
func (p *Process) answer(err error) {
	select {
	case p.ready <- err:
	default:
	}
}

// Pid is the engine's process id in the shim's pid namespace.
func (p *Process) Pid() int { return p.process.Pid }

// Load hands the guest over and waits until it is loaded. Any error means that the engine is dead; one of the guest's
// own making is ErrRefused, one of an address for it is ErrListen. It is called once.
func (p *Process) Load(ctx context.Context, g Guest) error {
	select {
	case p.outbox <- g.letter():
	case <-p.done: // which leaves an answer
	}
	var err error
	select {
	case err = <-p.ready:
	case <-ctx.Done():
		err = fmt.Errorf("load guest: %w", context.Cause(ctx))
	}
	if err != nil {
		p.Kill()
		<-p.done
	}
	return err
}

// Run lets the guest run. It is called once, after Load.
func (p *Process) Run() error {
	if err := p.tell(&wire.Message{Start: &wire.Start{}}); err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	return nil
}

// Stop asks the guest to end within grace as if by signal; see wire.Stop. It does not wait. A guest that
// is still there a second after its grace is killed. A later Stop can shorten the grace and nothing else.
func (p *Process) Stop(signal syscall.Signal, grace time.Duration) error {
	grace = min(max(grace, 0), maxGrace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	if p.stopped == 0 {
		p.stopped = signal
	}
	p.endWithin(grace + killDelay)
	// An engine that does not take it is ended by the failsafe.
	p.post(&wire.Message{Stop: &wire.Stop{Signal: int(signal), Grace: grace.Milliseconds()}})
	return nil
}

// endWithin sets the failsafe, unless it is to fire earlier. p.mu is held.
func (p *Process) endWithin(d time.Duration) {
	due := time.Now().Add(d)
	if p.failsafe != nil {
		if p.due.Before(due) {
			return
		}
		p.failsafe.Stop()
	}
	p.due, p.failsafe = due, time.AfterFunc(d, p.end)
}

// SetMemory moves the ceiling of the guest's linear memory, in bytes; 0 removes it. It returns when the ceiling holds, or
// after a second without an answer from an engine that is frozen or stopped, which moves it before its guest goes on or
// soon after.
func (p *Process) SetMemory(limit uint64) error {
	holds := make(chan struct{})
	if err := p.limit(limit, holds); err != nil {
		return fmt.Errorf("limit guest memory: %w", err)
	}
	patience := time.NewTimer(limitDelay)
	defer patience.Stop()
	select {
	case <-holds:
	case <-p.done:
	case <-patience.C:
	}
	return nil
}

func (p *Process) limit(limit uint64, holds chan<- struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.limits) >= backlog {
		return errDeaf
	}
	if err := p.tellLocked(&wire.Message{Limit: &wire.Limit{Memory: limit}}); err != nil {
		return err
	}
	p.limits = append(p.limits, holds)
	return nil
}

// limited lets the oldest SetMemory go on. It says false when there is none.
func (p *Process) limited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.limits) == 0 {
		return false
	}
	close(p.limits[0])
	p.limits = p.limits[1:]
	return true
}

func (p *Process) tell(m *wire.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tellLocked(m)
}

// tellLocked is tell with p.mu held.
func (p *Process) tellLocked(m *wire.Message) error {
	if p.ended {
		return errors.New("engine has ended")
	}
	if !p.post(m) {
		return errDeaf
	}
	return nil
}

// Kill ends the engine at once.
func (p *Process) Kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.end()
}

// Signal sends a signal that the kernel, not the guest, acts on: SIGSTOP or SIGCONT.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.process.Signal(s); err != nil {
		return fmt.Errorf("signal engine: %w", err)
	}
	return nil
}

func (p *Process) end() {
	_ = p.process.Kill() // it fails only when the process is gone already
}

// Done is closed when the process is gone and Exit can be read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended; it is valid after Done.
func (p *Process) Exit() Exit { return p.status }
