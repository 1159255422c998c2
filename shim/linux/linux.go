// Package linux is the pod's server's side of Linux containers: it starts the process that runs them, package runc, asks
// it what containerd asks, and keeps what goes on beside the containers.
package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"github.com/hachi-run/hachi/shim/taskpb"
)

// Service is the task service of a pod's Linux containers. Close ends it.
type Service struct {
	client
	process *process
	hooks   Hooks

	mu   sync.Mutex
	seen map[string]Observation // guarded by mu
	free map[string]func()      // guarded by mu; ends the redirection of a container's connections
}

// Options say what is started.
type Options struct {
	// Binary is hachi-linux.
	Binary string
	// Start starts it; wait returns its exit code, or 128 and the number of the signal that ended it.
	Start func(*exec.Cmd) (wait func() int, err error)
	// Namespace is containerd's, and Events its socket that takes events.
	Namespace, Events string
	// Debug has the process log every call.
	Debug bool
	// Died is told why when the process ended before Close. Its containers cannot be asked for any more.
	Died  func(error)
	Hooks Hooks
}

// Hooks are who is told of containers; the zero value tells nobody.
type Hooks struct {
	// Observer is told of every container.
	Observer Observer
	// Steer redirects the connections of a new container, of which only runc's own process runs, at pid, as its
	// annotations ask, and returns what ends that.
	Steer func(ctx context.Context, id string, annotations map[string]string, pid int) (end func(), err error)
}

// New starts the process.
func New(o Options) (*Service, error) {
	p, conn, err := start(o)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w (install all programs of hachi into one directory)", o.Binary, err)
	}
	return &Service{client: newClient(conn), process: p, hooks: o.Hooks, seen: make(map[string]Observation), free: make(map[string]func())}, nil
}

// Close ends the process when its last events are delivered, or ctx ends. Containers that are still there stay as they
// are, for containerd to delete.
func (s *Service) Close(ctx context.Context) error {
	s.process.dismiss()
	return errors.Join(s.client.close(), s.process.wait(ctx))
}

// Create creates a Linux container.
func (s *Service) Create(ctx context.Context, r *taskpb.CreateTaskRequest) (*taskpb.PidResponse, error) {
	reply, err := s.client.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx, r, int(reply.Pid)); err != nil {
		_, derr := s.Delete(ctx, &taskpb.ProcessRequest{Id: r.Id})
		return nil, errors.Join(fmt.Errorf("create container %s: %w", r.Id, err), derr)
	}
	return reply, nil
}

// Connect tells the server's own pid, as for every other container of the pod.
func (s *Service) Connect(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.ConnectResponse, error) {
	reply, err := s.client.Connect(ctx, r)
	if err == nil {
		reply.ShimPid = uint32(os.Getpid())
	}
	return reply, err
}
