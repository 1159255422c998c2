// Package linux runs a pod's Linux containers: containerd's own runc task service, embedded.
package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/containerd/api/runtime/task/v3"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	runc "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// Sender takes the service's events in order.
type Sender interface {
	Send(topic string, event any) error
}

// Service is the runc task service of one pod. Its Shutdown must not be called: it would end the process, Wasm
// containers and all. Its exits come from containerd's process reaper, which the server
// must run (reaper.Reap on SIGCHLD).
type Service struct {
	task.TTRPCTaskService
	hooks Hooks

	mu   sync.Mutex
	seen map[string]Observation // guarded by mu
	free map[string]func()      // guarded by mu; ends the redirection of a container's connections
}

// Hooks are who is told of containers; the zero value tells nobody.
type Hooks struct {
	// Observer is told of every container.
	Observer Observer
	// Steer redirects the connections of a new container, of which only runc's own process runs, at pid, as its
	// annotations ask, and returns what ends that.
	Steer func(ctx context.Context, id string, annotations map[string]string, pid int) (end func(), err error)
}

// New starts the service; it ends with ctx. Its events go to s.
func New(ctx context.Context, s Sender, h Hooks) (*Service, error) {
	ctx, sd := shutdown.WithShutdown(ctx)
	inner, err := runc.NewTaskService(ctx, publisher{s}, sd)
	if err != nil {
		return nil, fmt.Errorf("start runc service: %w", err)
	}
	return &Service{TTRPCTaskService: inner, hooks: h, seen: make(map[string]Observation), free: make(map[string]func())}, nil
}

// Create creates a Linux container. Options of CRI's generic form are translated to runc's.
func (s *Service) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	o, err := Options(r.Options)
	if err != nil {
		return nil, err
	}
	r.Options = o
	reply, err := s.TTRPCTaskService.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx, r, int(reply.Pid)); err != nil {
		_, derr := s.Delete(ctx, &task.DeleteRequest{ID: r.ID})
		return nil, errors.Join(fmt.Errorf("create container %s: %w", r.ID, err), derr)
	}
	return reply, nil
}

// Options translates a runtime class's options into runc's. CRI gives runtimes that it does not know a
// runtimeoptions.v1.Options with TOML in it, whose keys are runc's own (containerd's docs/cri/config.md).
func Options(in *anypb.Any) (*anypb.Any, error) {
	if in.GetTypeUrl() == "" {
		return nil, nil
	}
	v, err := typeurl.UnmarshalAny(in)
	if err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	generic, ok := v.(*runtimeoptions.Options)
	if !ok {
		if _, ok := v.(*runcoptions.Options); ok {
			return in, nil
		}
		return nil, fmt.Errorf("runtime options: type %s is not known: %w", in.TypeUrl, errdefs.ErrInvalidArgument)
	}
	body := generic.ConfigBody
	if len(body) == 0 && generic.ConfigPath != "" {
		if body, err = os.ReadFile(generic.ConfigPath); err != nil {
			return nil, fmt.Errorf("runtime options: %w", err)
		}
	}
	out := new(runcoptions.Options)
	if err := toml.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return typeurl.MarshalAnyToProto(out)
}

// Remove cleans up after a Linux container whose server died, with the bundle as working directory.
func Remove(ctx context.Context, id string) (shim.StopStatus, error) {
	return manager.NewShimManager("io.containerd.hachi.v1").Stop(ctx, id)
}

// publisher hands the service's events on. It is not the service's to close.
type publisher struct{ Sender }

func (p publisher) Publish(_ context.Context, topic string, event events.Event) error {
	return p.Send(topic, event)
}

func (publisher) Close() error { return nil }

var _ shim.Publisher = publisher{}
