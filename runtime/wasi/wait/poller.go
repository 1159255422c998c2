// Package wait parks a goroutine until one of many descriptors is ready.
//
// An instance owns one epoll descriptor, which itself sits in Go's network poller (nested epoll). A
// guest that waits for thousands of sockets and a timer so costs one parked goroutine: no thread and
// no CPU time.
package wait

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInterrupted is what a wait returns during and after Interrupt.
var ErrInterrupted = errors.New("wait: interrupted")

// ErrWoken is what one wait returns after Wake: conditions have changed, look again.
var ErrWoken = errors.New("wait: woken")

// Forever as a timeout waits until something is ready.
const Forever = time.Duration(-1)

// batch is how many events one epoll_wait takes; more stay queued in the kernel for the next one.
const batch = 128

// Poller waits for the handles of one instance. Interrupt and Wake may be called from any goroutine;
// all other methods belong to one goroutine at a time.
type Poller struct {
	file  *os.File
	conn  syscall.RawConn
	epfd  int
	slots []*Handle
	free  []int32
	round uint64
	ready int // handles of this round that need no epoll
	array [batch]unix.EpollEvent

	mu          sync.Mutex
	interrupted bool // guarded by mu
	woken       bool // guarded by mu
	timed       bool // guarded by mu; a read deadline is set on file
}

// New makes a poller; Close releases its one descriptor.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	// os.NewFile registers only non-blocking descriptors with the network poller; the flag has no
	// other effect on an epoll descriptor.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("create epoll: set non-blocking: %w", err)
	}
	p := &Poller{file: os.NewFile(uintptr(fd), "epoll"), epfd: fd}
	if p.conn, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("create epoll: not pollable by the Go runtime: %w", err)
	}
	return p, nil
}

// Begin starts a new round: nothing is wanted any more.
func (p *Poller) Begin() {
	p.round++
	p.ready = 0
}

// Wait returns when a wanted handle is ready (how many were found), when the timeout has passed (0,
// nil), or with ErrInterrupted or ErrWoken. A timeout of 0 only looks. Handles then tell what is ready.
func (p *Poller) Wait(timeout time.Duration) (int, error) {
	n, err := p.collect()
	if err != nil {
		return 0, err
	}
	if n += p.ready; n > 0 || timeout == 0 {
		return n, p.state()
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := p.arm(deadline); err != nil {
		return 0, err
	}
	var failed error
	err = p.conn.Read(func(uintptr) bool {
		n, failed = p.collect()
		return n > 0 || failed != nil
	})
	switch {
	case failed != nil:
		return 0, failed
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, p.state()
	default:
		return 0, fmt.Errorf("wait: epoll: %w", err)
	}
}

// collect takes what epoll has without blocking and counts the wanted handles among it.
func (p *Poller) collect() (int, error) {
	for {
		n, err := unix.EpollWait(p.epfd, p.array[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: epoll: %w", err)
		}
		found := 0
		for i := range p.array[:n] {
			e := &p.array[i]
			if h := p.slots[e.Fd]; h != nil && h.deliver(p, e.Events) {
				found++
			}
		}
		// A full batch of nothing wanted has only removed old interests: what is wanted may be next.
		if found > 0 || n < batch {
			return found, nil
		}
	}
}

// arm sets the deadline of the coming wait unless the wait has already been cut short.
func (p *Poller) arm(deadline time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.stateLocked(); err != nil {
		return err
	}
	if deadline.IsZero() && !p.timed {
		return nil
	}
	p.timed = !deadline.IsZero()
	if err := p.file.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("wait: set deadline: %w", err)
	}
	return nil
}

func (p *Poller) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stateLocked()
}

func (p *Poller) stateLocked() error {
	if p.interrupted {
		return ErrInterrupted
	}
	if p.woken {
		p.woken = false
		return ErrWoken
	}
	return nil
}

// Interrupt ends the present wait, if any, and every later one, with ErrInterrupted.
func (p *Poller) Interrupt() {
	p.cut(func() { p.interrupted = true })
}

// Wake ends the present wait, or else the next one, with ErrWoken.
func (p *Poller) Wake() {
	p.cut(func() { p.woken = true })
}

func (p *Poller) cut(mark func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark()
	p.timed = true
	// Fails only on a closed file, on which nobody waits.
	_ = p.file.SetReadDeadline(time.Unix(1, 0))
}

// Close releases the poller. No wait may be under way.
func (p *Poller) Close() error {
	if err := p.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close epoll: %w", err)
	}
	return nil
}
