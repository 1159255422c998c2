// Package task serves containerd's task and sandbox services: a request becomes a call of package pod, and what
// happens in the pod becomes an event.
//
// One router stands before two task services, one for Wasm containers and one, runc's own, for Linux containers of
// the same pod. What a container is shows when it is created.
package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/sandbox"
	"github.com/hachi-run/hachi/shim/taskpb"
)

// Images finds out what a container's image is.
type Images interface {
	Look(id string, spec *specs.Spec, rootfs []specs.Mount) (*image.Look, error)
}

// Options are what the services need. All fields are required.
type Options struct {
	Pod    *pod.Pod
	Images Images
	Events Events
	// Sandbox is the pod's sandbox where containerd uses the sandbox service, else unborn.
	Sandbox *sandbox.Sandbox
	// PIDs is the process id namespace that Linux containers of the pod may share.
	PIDs *sandbox.PIDs
	// Namespace is containerd's.
	Namespace string
	// Linux starts the service of Linux containers; it is called when the first one comes.
	Linux func() (Service, error)
	// Shutdown ends the server when the answer to the current call is out.
	Shutdown func()
}

// Router serves the task service, versions 2 and 3. Its methods are safe for concurrent use.
type Router struct {
	Service // the Wasm containers', which also answers for unknown ids

	o    Options
	wasm *wasm

	mu       sync.Mutex
	linux    Service         // guarded by mu; nil until the first Linux container
	linuxIDs map[string]bool // guarded by mu
	ending   bool            // guarded by mu: Shutdown was granted
}

// New returns a router.
func New(o Options) *Router {
	w := &wasm{pod: o.Pod, events: o.Events, namespace: o.Namespace, lives: make(map[*pod.Process]*life)}
	return &Router{Service: w, o: o, wasm: w, linuxIDs: make(map[string]bool)}
}

// Register adds the task services to a server.
func (r *Router) Register(s *ttrpc.Server) {
	d := description(r.choose)
	s.RegisterService("containerd.task.v3.Task", d)
	s.RegisterService("containerd.task.v2.Task", d)
}

// choose sends a call to where its container is; the router itself stands before the Wasm containers.
func (r *Router) choose(id string) Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.linuxIDs[id] {
		return linuxContainers{r.linux, r}
	}
	return r
}

// Create finds out what the container is and creates it there.
func (r *Router) Create(ctx context.Context, q *taskpb.CreateTaskRequest) (*taskpb.PidResponse, error) {
	if err := r.admit(q.Id); err != nil {
		return nil, err
	}
	b, err := bundle.Open(q.Bundle)
	if err != nil {
		return nil, err
	}
	changed := b.Mount(r.o.Sandbox.Mounts())
	if b.Sandbox() {
		return r.wasm.create(ctx, q, b, nil)
	}
	look, err := r.o.Images.Look(q.Id, b.Spec, mounts(q.Rootfs))
	if err != nil {
		return nil, err
	}
	defer look.Close()
	find := look.Resolve
	if look.Likely() == image.Linux || q.Checkpoint != "" {
		// Then it is known without a question, or most of the time.
		img, err := look.Resolve(ctx)
		if err != nil {
			return nil, err
		}
		find = func(context.Context) (*image.Image, error) { return img, nil }
		if img.Kind == image.Linux {
			return r.createLinux(ctx, q, b, changed)
		}
	}
	slog.Info("create container", "id", q.Id, "kind", image.Wasm)
	reply, err := r.wasm.create(ctx, q, b, find)
	if errors.Is(err, pod.ErrLinux) {
		return r.createLinux(ctx, q, b, changed)
	}
	return reply, err
}

// mounts are a request's, in the terms of the OCI runtime spec.
func mounts(rootfs []*types.Mount) []specs.Mount {
	var out []specs.Mount
	for _, m := range rootfs {
		out = append(out, specs.Mount{Destination: m.Target, Type: m.Type, Source: m.Source, Options: m.Options})
	}
	return out
}

// admit refuses what must not be tried.
func (r *Router) admit(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending {
		return fmt.Errorf("create container %s: the pod's server is ending: %w", id, errdefs.ErrUnavailable)
	}
	// The Wasm containers' service looks after its own ids.
	if r.linuxIDs[id] {
		return fmt.Errorf("create container %s: %w (delete the old one first)", id, errdefs.ErrAlreadyExists)
	}
	return nil
}

// createLinux has runc create a container. changed says that its specification differs from its bundle's file.
func (r *Router) createLinux(ctx context.Context, q *taskpb.CreateTaskRequest, b bundle.Bundle, changed bool) (*taskpb.PidResponse, error) {
	slog.Info("create container", "id", q.Id, "kind", image.Linux)
	shared, err := r.o.PIDs.Redirect(b.Spec)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", q.Id, err)
	}
	if changed || shared { // runc reads the file
		if err := b.Save(); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	if r.linux == nil {
		linux, err := r.o.Linux()
		if err != nil {
			r.mu.Unlock()
			return nil, fmt.Errorf("create Linux container %s: %w", q.Id, err)
		}
		r.linux = linux
	}
	linux := r.linux
	if _, err := r.o.Pod.Container(q.Id); err == nil || r.linuxIDs[q.Id] {
		r.mu.Unlock()
		return nil, fmt.Errorf("create container %s: %w (delete the old one first)", q.Id, errdefs.ErrAlreadyExists)
	}
	r.linuxIDs[q.Id] = true
	r.mu.Unlock()
	reply, err := linux.Create(ctx, q)
	if err != nil {
		r.forget(q.Id)
	}
	return reply, err
}

func (r *Router) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.linuxIDs, id)
}

// Shutdown ends the server when nothing is left in the pod.
func (r *Router) Shutdown(context.Context, *taskpb.ShutdownRequest) (*emptypb.Empty, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.linuxIDs) == 0 && r.o.Pod.Empty() && !r.o.Sandbox.Alive() {
		r.ending = true
		r.o.Shutdown()
	}
	return empty, nil
}

// Close ends all Wasm containers and tells their exits; it is for the end of the server.
func (r *Router) Close() { r.wasm.close() }

// Connect tells the pids of a container, or of the sandbox, whose task is the server itself.
func (r *Router) Connect(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.ConnectResponse, error) {
	if st, err := r.o.Sandbox.Status(q.Id); err == nil {
		return &taskpb.ConnectResponse{ShimPid: uint32(st.Pid), TaskPid: uint32(st.Pid)}, nil
	}
	return r.wasm.Connect(ctx, q)
}

// Pids lists the processes of a container, or of the sandbox. containerd kills a server that names none.
func (r *Router) Pids(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.PidsResponse, error) {
	if st, err := r.o.Sandbox.Status(q.Id); err == nil {
		return &taskpb.PidsResponse{Processes: []*task.ProcessInfo{{Pid: uint32(st.Pid)}}}, nil
	}
	return r.wasm.Pids(ctx, q)
}

// linuxContainers is runc's service, less what concerns the server as a whole.
type linuxContainers struct {
	Service
	router *Router
}

// Delete also forgets the container.
func (l linuxContainers) Delete(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.DeleteResponse, error) {
	reply, err := l.Service.Delete(ctx, q)
	// NotFound is also the end of one whose Create has failed a moment ago.
	if (err == nil || status.Code(err) == codes.NotFound) && q.ExecId == "" {
		l.router.forget(q.Id)
	}
	return reply, err
}

// Shutdown is never runc's to answer: it would end the process.
func (l linuxContainers) Shutdown(ctx context.Context, q *taskpb.ShutdownRequest) (*emptypb.Empty, error) {
	return l.router.Shutdown(ctx, q)
}
