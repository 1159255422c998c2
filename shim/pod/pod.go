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
	Stats() (any, error)
	OOMKills() (uint64, error)
	Freeze() error
	Thaw() error
	Pids() ([]int, error)
	Kill() error
	Delete() error
	// Dirs are the group's directories, for whoever cleans up after a crash.
	Dirs() []string
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
	// Grace is how long open connections of a guest may go on after a stop signal; 0 means 10 s, as
	// `docker stop` gives. An annotation may shorten it.
	Grace time.Duration
}

// Pod is the set of Wasm containers that share one server. Its methods are safe for concurrent use.
type Pod struct {
	o Options

	mu         sync.Mutex
	containers map[string]*Container // guarded by mu; nil while one is being created
}

// New returns an empty pod.
func New(o Options) *Pod {
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	return &Pod{o: o, containers: make(map[string]*Container)}
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
	return len(p.containers) == 0
}

// Create makes a container from o and loads its guest. When it fails, nothing of it is left.
func (p *Pod) Create(ctx context.Context, o ContainerOptions) (*Container, error) {
	if err := p.reserve(o.ID); err != nil {
		return nil, err
	}
	c, err := p.create(ctx, o)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		delete(p.containers, o.ID)
		return nil, fmt.Errorf("create container %s: %w", o.ID, err)
	}
	p.containers[o.ID] = c
	return c, nil
}

func (p *Pod) reserve(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.containers[id]; ok {
		return fmt.Errorf("create container %s: %w (delete the old one first)", id, errdefs.ErrAlreadyExists)
	}
	p.containers[id] = nil
	return nil
}

// Delete removes a container whose process has not run or has ended, and all that it owned. It returns
// how its process ended.
func (p *Pod) Delete(ctx context.Context, id string) (*Container, error) {
	c, err := p.Container(id)
	if err != nil {
		return nil, err
	}
	if err := c.remove(ctx); err != nil {
		return nil, fmt.Errorf("delete container %s: %w", id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.containers, id)
	return c, nil
}

// Close ends every container at once and removes it.
func (p *Pod) Close() {
	p.mu.Lock()
	var all []*Container
	for _, c := range p.containers {
		if c != nil {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	for _, c := range all {
		c.destroy()
	}
}
