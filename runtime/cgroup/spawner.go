package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// spawner is one thread that starts processes. For v1 it goes into the group itself, which for a thread and
// its own id costs 25 us a tree and waits for nobody, and its child is born there; back home it goes when the
// caller already has its answer. The thread outlives each start, and Pdeathsig with it.
//
// In a group whose memory is at its limit the kernel refuses what a thread needs for itself too, such as opening a file.
// So memory is entered last and left first, through a file that is open already.
type spawner struct {
	host  *host
	setup func() error
	jobs  chan job
	ended chan struct{}
	exit  int // the thread's alone: tasks of the process's own group in the last tree; -1 if it is not open

	mu      sync.Mutex
	started bool // guarded by mu
	closed  bool // guarded by mu
}

type job struct {
	groups []string // v1 directories to be in
	start  func() error
	result chan error
}

var errClosed = errors.New("cgroup manager is closed")

func newSpawner(h *host, setup func() error) *spawner {
	return &spawner{host: h, setup: setup, jobs: make(chan job), ended: make(chan struct{}), exit: -1}
}

// run has the thread do start while it is in groups.
func (s *spawner) run(groups []string, start func() error) error {
	j := job{groups: groups, start: start, result: make(chan error, 1)}
	if err := s.send(j); err != nil {
		return err
	}
	return <-j.result
}

func (s *spawner) send(j job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.begin()
	s.jobs <- j
	return nil
}

// begin starts the thread. s.mu is held.
func (s *spawner) begin() {
	if !s.started {
		s.started = true
		go s.loop()
	}
}

func (s *spawner) warm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.begin()
	}
}

// settle returns when the thread is home from its last job.
func (s *spawner) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started && !s.closed {
		j := job{start: func() error { return nil }, result: make(chan error, 1)}
		s.jobs <- j
		if err := <-j.result; err != nil {
			slog.Error("cgroup spawner is not ready", "err", err)
		}
	}
}

// close ends the thread and waits for it.
func (s *spawner) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.jobs)
	if s.started {
		<-s.ended
	}
}

func (s *spawner) loop() {
	// Never unlocked: the thread ends with this goroutine.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread does not end, and what setup does to it would stay. While we hold it, another
		// goroutine gets another thread.
		gone := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(gone)
			s.serve()
		}()
		<-gone
		runtime.UnlockOSThread()
		return
	}
	s.serve()
}

func (s *spawner) serve() {
	defer close(s.ended)
	var setupErr error
	if s.setup != nil {
		setupErr = s.setup()
	}
	s.findExit()
	defer func() { unix.Close(s.exit) }() // -1 is an error that nobody minds
	for j := range s.jobs {
		if setupErr != nil {
			j.result <- fmt.Errorf("prepare spawner thread: %w", setupErr)
			continue
		}
		err := s.enter(j.groups)
		if err == nil {
			err = j.start()
		}
		j.result <- err
		if len(j.groups) > 0 {
			s.goHome()
		}
	}
}

// enter moves the thread. "tasks" and 0 is the one form that takes no lock against forks (Linux 5.5).
func (s *spawner) enter(groups []string) error {
	for _, dir := range groups {
		if err := write(dir, "tasks", "0"); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// goHome moves the thread to where the process is now.
func (s *spawner) goHome() {
	// Where the process was before will do for a moment.
	_, _ = ignoreEINTR(func() (int, error) { return unix.Write(s.exit, []byte("0")) })
	unix.Close(s.exit)
	text := s.findExit()
	for _, t := range s.host.v1 {
		if err := write(t.home(text), "tasks", "0"); err != nil {
			slog.Error("cgroup spawner cannot go home", "tree", t.dir, "err", err)
		}
	}
}

// findExit opens the way out of the group that is entered last, and returns /proc/self/cgroup, from which it knows it.
func (s *spawner) findExit() string {
	s.exit = -1
	if len(s.host.v1) == 0 {
		return ""
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err == nil {
		name := filepath.Join(s.host.v1[len(s.host.v1)-1].home(string(text)), "tasks")
		s.exit, err = ignoreEINTR(func() (int, error) { return unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	}
	if err != nil {
		slog.Error("cgroup spawner does not know its home", "err", err)
		s.exit = -1
	}
	return string(text)
}

// home finds the process's own group in the text of /proc/self/cgroup.
func (t hierarchy) home(text string) string {
	want := "name=" + t.name
	if len(t.controllers) > 0 {
		want = t.controllers[0]
	}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			if name == want {
				return t.local(parts[2])
			}
		}
	}
	return filepath.Clean(t.dir)
}
