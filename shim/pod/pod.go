// Package pod holds the Wasm containers of one pod: their states, processes and what each one owns.
//
// It knows nothing of containerd's calls and events. Package task turns a call into one method here, and an
// ended process into an event.
package pod

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/runtime/engine"
)

// Artifacts turns modules into files that an engine loads in milliseconds.
type Artifacts interface {
	// Get returns the compiled form of module, whose content has that digest; the caller closes it.
	Get(ctx context.Context, digest string, module *os.File) (*os.File, error)
}

// Group is a container's cgroup.
type Group interface {
	// Starter returns a starter whose processes are born in the group.
	Starter() engine.Starter
	Update(*specs.LinuxResources) error
	// Stats is the metrics message of containerd that fits the host's cgroups.
	Stats() (metrics.Message, error)
	OOMKills() (uint64, error)
	Freeze() error
	Thaw() error
	Pids() ([]int, error)
	Kill() error
	Delete() error
	// Dirs are the group's directories, for whoever cleans up after a crash.
	Dirs() []string
	// UnifiedPath is the one of them in the cgroup2 tree, where BPF attaches; empty on a machine without one.
	UnifiedPath() string
}

// Groups makes cgroups.
type Groups interface {
	Create(path string, r *specs.LinuxResources) (Group, error)
}

// Options are what a pod needs from outside.
type Options struct {
	// Engine is the path of hachi-engine.
	Engine string
	// Namespace is containerd's.
	Namespace string
	Artifacts Artifacts
	Groups    Groups
	// Observer is told of every container with a cgroup; nil keeps no account.
	Observer Observer
	// Steer redirects the connections of a new container as its annotations ask, and returns what ends that; nil
	// redirects nothing.
	Steer func(ctx context.Context, id string, annotations map[string]string, g Group) (end func(), err error)
	// Grace is how long open connections of a guest may go on after a stop signal; 0 means 10 s, as
	// `docker stop` gives. An annotation may shorten it.
	Grace time.Duration
}

// Pod is the set of Wasm containers that share one server. Its methods are safe for concurrent use.
type Pod struct {
	o Options

	mu         sync.Mutex
	containers map[string]*Container // guarded by mu
	creating   map[string]*creation  // guarded by mu; an id is in one of the two maps
	closed     bool                  // guarded by mu
}

// creation is a container that is not there yet.
type creation struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// errGone ends the creation of a container that nobody wants any more.
var errGone = fmt.Errorf("deleted while it was being created: %w", errdefs.ErrAborted)

// New returns an empty pod.
func New(o Options) *Pod {
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	if o.Steer == nil {
		o.Steer = func(context.Context, string, map[string]string, Group) (func(), error) { return func() {}, nil }
	}
	return &Pod{o: o, containers: make(map[string]*Container), creating: make(map[string]*creation)}
}

// Container finds a container by its id.
func (p *Pod) Container(id string) (*Container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// Empty tells whether the pod has no container, not even one that is being created.
func (p *Pod) Empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.containers) == 0 && len(p.creating) == 0
}

// Create makes a container from o and loads its guest. When it fails, also because Delete or Close came meanwhile,
// nothing of it is left.
func (p *Pod) Create(ctx context.Context, o ContainerOptions) (*Container, error) {
	n, err := p.reserve(ctx, o.ID)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", o.ID, err)
	}
	c, err := p.create(n.ctx, o)
	if err == nil {
		err = p.admit(n, o, c)
	} else if why := context.Cause(n.ctx); why != nil {
		err = why // what failed did so for that reason
	}
	p.release(n, o.ID)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", o.ID, err)
	}
	return c, nil
}

func (p *Pod) reserve(ctx context.Context, id string) (*creation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("the pod's server is ending: %w", errdefs.ErrUnavailable)
	}
	if p.containers[id] != nil || p.creating[id] != nil {
		return nil, fmt.Errorf("%w (delete the old one first)", errdefs.ErrAlreadyExists)
	}
	n := &creation{done: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	p.creating[id] = n
	return n, nil
}

// admit makes a new container visible, or destroys it if it is not wanted any more.
func (p *Pod) admit(n *creation, o ContainerOptions, c *Container) error {
	p.mu.Lock()
	err := context.Cause(n.ctx)
	if err == nil {
		if o.Announce != nil {
			o.Announce(c)
		}
		p.containers[o.ID] = c
	}
	p.mu.Unlock()
	if err != nil {
		c.destroy()
	}
	return err
}

func (p *Pod) release(n *creation, id string) {
	p.mu.Lock()
	delete(p.creating, id)
	p.mu.Unlock()
	n.cancel(nil)
	close(n.done)
}

// Delete removes a container whose process has not run or has ended, and all that it owned. One that is being created
// never comes to be: that is NotFound, once nothing of it is left.
func (p *Pod) Delete(ctx context.Context, id string) error {
	p.mu.Lock()
	c, n := p.containers[id], p.creating[id]
	if n != nil {
		n.cancel(errGone)
	}
	p.mu.Unlock()
	if n != nil {
		select {
		case <-n.done:
		case <-ctx.Done():
			return fmt.Errorf("delete container %s: wait for the end of its creation: %w", id, context.Cause(ctx))
		}
	}
	if c == nil {
		return fmt.Errorf("delete container %s: %w", id, errdefs.ErrNotFound)
	}
	if err := c.remove(); err != nil {
		return fmt.Errorf("delete container %s: %w", id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.containers[id] != c {
		return fmt.Errorf("delete container %s: %w", id, errdefs.ErrNotFound)
	}
	delete(p.containers, id)
	return nil
}

// Close ends every container at once and removes it, those too that are being created. There are none afterwards.
func (p *Pod) Close() {
	p.mu.Lock()
	p.closed = true
	var creating []*creation
	for _, n := range p.creating {
		n.cancel(fmt.Errorf("the pod's server is ending: %w", errdefs.ErrUnavailable))
		creating = append(creating, n)
	}
	p.mu.Unlock()
	for _, n := range creating {
		<-n.done
	}
	p.mu.Lock()
	all := p.containers
	p.containers = make(map[string]*Container)
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, c := range all {
		ends.Go(c.destroy)
	}
	ends.Wait()
}
