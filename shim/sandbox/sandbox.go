// Package sandbox is a pod without a pause container: containerd's sandbox API (sandboxer = "shim").
//
// The server itself holds the pod's namespaces: it moves into them when the sandbox is created, so containers that
// join /proc/PID/ns/... find them at the server's pid.
package sandbox

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// State of a sandbox, in the words of CRI, which containerd passes through.
type State string

// A sandbox is unborn until Create, and NotReady until Start and after Stop.
const (
	Unborn   State = ""
	NotReady State = "SANDBOX_NOTREADY"
	Ready    State = "SANDBOX_READY"
)

// Sandbox is the one sandbox of a server. Its methods are safe for concurrent use.
type Sandbox struct {
	mu      sync.Mutex
	id      string        // guarded by mu
	state   State         // guarded by mu
	config  Config        // guarded by mu
	mounts  []specs.Mount // guarded by mu
	created time.Time     // guarded by mu
	stopped time.Time     // guarded by mu
	done    chan struct{}
}

// New returns an unborn sandbox.
func New() *Sandbox { return &Sandbox{done: make(chan struct{})} }

// Create moves the process into the sandbox's namespaces and writes the pod's files into its bundle. It can be done
// once.
func (s *Sandbox) Create(id, bundle, netns string, c Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Unborn {
		return fmt.Errorf("create sandbox %s: sandbox %s: %w", id, s.id, errdefs.ErrAlreadyExists)
	}
	fresh := unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	if c.HostNetwork {
		netns, fresh = "", fresh&^unix.CLONE_NEWUTS // the node's network has the node's name
	}
	if c.HostIPC {
		fresh &^= unix.CLONE_NEWIPC
	}
	if err := enter(netns, fresh); err != nil {
		return fmt.Errorf("create sandbox %s: %w", id, err)
	}
	if fresh&unix.CLONE_NEWUTS != 0 && c.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fmt.Errorf("create sandbox %s: hostname %s: %w", id, c.Hostname, err)
		}
	}
	if err := SetSysctls(c.Sysctls, Own{Network: netns != "", IPC: fresh&unix.CLONE_NEWIPC != 0}); err != nil {
		return fmt.Errorf("create sandbox %s: %w", id, err)
	}
	mounts, err := writeFiles(bundle, c)
	if err != nil {
		return fmt.Errorf("create sandbox %s: %w", id, err)
	}
	s.id, s.state, s.config, s.mounts, s.created = id, NotReady, c, mounts, time.Now()
	return nil
}

// Start makes the sandbox ready.
func (s *Sandbox) Start(id string) (pid int, created time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(id); err != nil {
		return 0, time.Time{}, err
	}
	if s.state == Ready || !s.stopped.IsZero() {
		return 0, time.Time{}, fmt.Errorf("start sandbox %s: it was started before: %w", id, errdefs.ErrFailedPrecondition)
	}
	s.state = Ready
	return os.Getpid(), s.created, nil
}

// Stop ends the sandbox; once is enough.
func (s *Sandbox) Stop(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(id); err != nil {
		return err
	}
	if s.stopped.IsZero() {
		s.state, s.stopped = NotReady, time.Now()
		close(s.done)
	}
	return nil
}

// Wait waits for Stop and returns its time.
func (s *Sandbox) Wait(ctx context.Context, id string) (time.Time, error) {
	s.mu.Lock()
	err := s.check(id)
	s.mu.Unlock()
	if err != nil {
		return time.Time{}, err
	}
	select {
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.stopped, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

// Status is what a sandbox is at one moment.
type Status struct {
	State            State
	Pid              int
	Created, Stopped time.Time // Stopped is zero before Stop
	CgroupParent     string
}

// Status tells what the sandbox is now.
func (s *Sandbox) Status(id string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(id); err != nil {
		return Status{}, err
	}
	return Status{State: s.state, Pid: os.Getpid(), Created: s.created, Stopped: s.stopped, CgroupParent: s.config.CgroupParent}, nil
}

// Mounts are what every container of the pod gets beside its own: resolv.conf, hosts, hostname and /dev/shm.
func (s *Sandbox) Mounts() []specs.Mount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mounts
}

// Close is Stop for whatever sandbox there is, when the server ends.
func (s *Sandbox) Close() {
	s.mu.Lock()
	id := s.id
	s.mu.Unlock()
	_ = s.Stop(id) // an unborn one has nobody who waits
}

// Born tells whether Create has succeeded.
func (s *Sandbox) Born() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != Unborn
}

// Alive tells whether there is a sandbox that was not stopped: then the server must stay.
func (s *Sandbox) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != Unborn && s.stopped.IsZero()
}

// check finds the sandbox by its id. s.mu is held.
func (s *Sandbox) check(id string) error {
	if s.state == Unborn || id != s.id {
		return fmt.Errorf("sandbox %s: %w", id, errdefs.ErrNotFound)
	}
	return nil
}
