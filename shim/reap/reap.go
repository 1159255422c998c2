// Package reap waits for any number of children without a thread for each.
package reap

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// signaled is added to the number of the signal that ended a child, for its status.
const signaled = 128

// Reaper waits for the children that it started. Its methods are safe for concurrent use.
type Reaper struct {
	signals chan os.Signal
	done    chan struct{} // closed when signals are not looked at any more

	mu       sync.Mutex
	children map[int]chan struct{} // guarded by mu: closed when that child has ended
}

// New returns a Reaper. Close ends it.
func New() *Reaper {
	r := &Reaper{signals: make(chan os.Signal, 1), done: make(chan struct{}), children: make(map[int]chan struct{})}
	signal.Notify(r.signals, unix.SIGCHLD)
	go func() {
		defer close(r.done)
		for range r.signals {
			r.look()
		}
	}()
	return r
}

// Start starts a child. wait waits for its end and for what copies its streams, as exec.Cmd's Wait, and must be called once; it
// returns the exit code, or 128 and the number of the signal that ended the child.
func (r *Reaper) Start(cmd *exec.Cmd) (wait func() int, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	r.mu.Lock()
	r.children[cmd.Process.Pid] = ended
	r.mu.Unlock()
	r.look() // it may have ended before it was one of ours
	return func() int {
		<-ended
		_ = cmd.Wait() // its state says it all
		return status(cmd.ProcessState)
	}, nil
}

// look looks which children have ended. They stay zombies, and their numbers nobody else's, until those that wait have
// seen them.
func (r *Reaper) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid, ended := range r.children {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == nil && info.Signo == 0 || err == unix.EINTR {
			continue
		}
		close(ended)
		delete(r.children, pid)
	}
}

func status(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return signaled + int(w.Signal())
	}
	return s.ExitCode()
}

// Close ends it. Those that still wait go on, each with a thread.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.signals)
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ended := range r.children {
		close(ended)
	}
	clear(r.children)
}
