package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/stdio"
)

// ContainerOptions say what a container is.
type ContainerOptions struct {
	ID string
	// Bundle is the directory of its config.json.
	Bundle bundle.Bundle
	// Find finds out what it runs; it may take its time, for the container's process starts meanwhile. nil makes the
	// pod's pause container, which runs nothing.
	Find func(context.Context) (*image.Image, error)
	// Rootfs are the mounts of its root file system.
	Rootfs []specs.Mount
	IO     stdio.Config
	// Announce is called with the new container before anybody else can find it; nil is nothing to do.
	Announce func(*Container)
}

// Container is one Wasm container, or the pod's pause container. Its methods are safe for concurrent use.
type Container struct {
	ID      string
	Bundle  bundle.Bundle
	Created time.Time
	// Init is the first process; the container ends with it.
	Init *Process

	pod   *Pod
	image *image.Image // nil for the pause container
	group Group
	root  *rootSpec // nil for the pause container
	seen  Observation
	free  func() // ends the redirection of its connections

	// ending is over when the first process has ended or Delete has begun; no exec starts then.
	ending context.Context
	end    context.CancelFunc // called with mu held

	mu      sync.Mutex
	execs   map[string]*Process // guarded by mu
	ceiling uint64              // guarded by mu: of each guest's memory, in bytes; 0 is none
	victims uint64              // guarded by mu: processes that the kernel is known to have killed for want of memory
	running sync.WaitGroup      // exec processes that are alive or on their way
}

// ErrLinux is Create's answer for a container that turned out to run a Linux program. Nothing is left of it.
var ErrLinux = errors.New("not a Wasm container")

func (p *Pod) create(ctx context.Context, o ContainerOptions) (*Container, error) {
	spec := o.Bundle.Spec
	c := &Container{ID: o.ID, Bundle: o.Bundle, Created: time.Now(), Init: newProcess("", o.IO), pod: p,
		execs: make(map[string]*Process), ceiling: ceiling(resources(spec))}
	c.ending, c.end = context.WithCancel(context.Background())
	if o.Find == nil {
		return c, c.beginPause()
	}
	s := p.search(ctx, o.Find)
	defer s.close()
	if err := c.begin(ctx, o, s); err != nil {
		// What it is counts before what is wrong with it.
		if kind := s.judge(); kind != nil {
			err = kind
		}
		return nil, err
	}
	go c.watch()
	return c, nil
}

// beginPause makes what the pod's pause container owns: a cgroup, which stays empty. kubelet takes a pod's network
// counters from the pause container's process, which it finds by that cgroup.
func (c *Container) beginPause() (err error) {
	spec := c.Bundle.Spec
	c.Init.pid = os.Getpid()
	c.seen, c.free = unobserved{}, func() {}
	if c.group, err = c.pod.o.Groups.Create(cgroupsPath(spec, c.pod.o.Namespace, c.ID), nil); err != nil {
		return err
	}
	if err = errors.Join(c.Bundle.Record(bundle.Leftovers{Cgroups: c.group.Dirs()}), furnish(spec)); err != nil {
		return errors.Join(err, c.group.Delete(), c.Bundle.Forget())
	}
	return nil
}

// begin makes all that the container owns and loads what s finds into its first engine.
func (c *Container) begin(ctx context.Context, o ContainerOptions, s *search) (err error) {
	spec := o.Bundle.Spec
	if err := checkAnnotations(spec.Annotations); err != nil {
		return err
	}
	if err := checkLimits(resources(spec)); err != nil {
		return err
	}
	if len(spec.Process.Args) == 0 {
		return fmt.Errorf("no command: %w (give the image an entrypoint or the pod a command)", errdefs.ErrInvalidArgument)
	}
	if c.root, err = newRootSpec(spec, o.Bundle.Path, o.Rootfs); err != nil {
		return err
	}
	if c.group, err = c.pod.o.Groups.Create(cgroupsPath(spec, c.pod.o.Namespace, o.ID), resources(spec)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.seen.Undo()
			if c.free != nil {
				c.free()
			}
			err = errors.Join(err, c.group.Delete(), o.Bundle.Forget())
		}
	}()
	c.seen = c.pod.o.Observer.Observe(o.ID, spec.Annotations, c.group)
	if c.free, err = c.pod.o.Steer(ctx, o.ID, spec.Annotations, c.group); err != nil {
		return err
	}
	if err := o.Bundle.Record(bundle.Leftovers{Cgroups: c.group.Dirs()}); err != nil {
		return err
	}
	return c.launch(ctx, c.Init, launch{process: spec.Process, cloneflags: c.root.cloneflags, guest: func() (engine.Guest, error) {
		found, err := s.wait()
		if err != nil {
			return engine.Guest{}, err
		}
		c.image = found.image
		g := c.guest(spec.Process, found.program)
		g.Config.Listeners, err = listeners(spec.Annotations, found.image.Ports)
		return g, errors.Join(err, furnish(spec))
	}})
}

// watch waits for the end of the container's first process and ends the container with it.
func (c *Container) watch() {
	<-c.Init.engine.Done()
	x := c.verdict(c.Init) // first, for the kernel's victim was it and not those that go with it
	c.shut()
	_ = c.group.Kill() // what was executed beside it goes with it, its exits before the container's own
	c.running.Wait()
	// If the server dies before Delete, containerd still hears how it ended. A bundle that is gone has been deleted.
	_ = c.Bundle.Record(bundle.Leftovers{Cgroups: c.group.Dirs(), Exit: &bundle.Exit{Status: x.Code, At: x.At.UnixNano()}})
	c.Init.end(x)
}

// shut lets no further exec start.
func (c *Container) shut() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	return slices.Collect(maps.Values(c.execs))
}

// verdict says how an ended engine's guest ended, with the kernel's word on memory.
func (c *Container) verdict(p *Process) Exit {
	e := p.engine.Exit()
	x := Exit{Code: e.Code, At: e.At, OOM: e.OOM}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, err := c.group.OOMKills(); err == nil && n > c.victims && e.Code == 128+uint32(syscall.SIGKILL) {
		x.OOM, c.victims = true, n
	}
	return x
}

func (c *Container) memoryCeiling() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ceiling
}

// Start lets the guest run, or an exec's.
func (c *Container) Start(ctx context.Context, exec string) (*Process, error) {
	p, err := c.Process(exec)
	if err != nil {
		return nil, err
	}
	if exec != "" {
		return p, c.startExec(ctx, p)
	}
	return p, p.start()
}

// Process finds the first process, for an empty id, or an exec.
func (c *Container) Process(exec string) (*Process, error) {
	if exec == "" {
		return c.Init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[exec]
	if p == nil {
		return nil, fmt.Errorf("exec %s of container %s: %w", exec, c.ID, errdefs.ErrNotFound)
	}
	return p, nil
}

// Kill sends a signal to a process, or to all of them; see Process.kill for what signals mean.
func (c *Container) Kill(exec string, sig syscall.Signal, all bool) error {
	p, err := c.Process(exec)
	if err != nil {
		return err
	}
	if c.image == nil {
		return c.killPause(sig)
	}
	if err := p.kill(sig, grace(c.Bundle.Spec.Annotations, c.pod.o.Grace)); err != nil {
		return err
	}
	if all && exec == "" {
		c.mu.Lock()
		execs := slices.Collect(maps.Values(c.execs))
		c.mu.Unlock()
		for _, e := range execs {
			_ = e.kill(sig, 0) // it may have ended, or not have begun
		}
	}
	if sig == syscall.SIGKILL && exec == "" {
		// A frozen process dies when it thaws. One exec's death is no reason to thaw the others.
		return c.thaw()
	}
	return nil
}

// killPause ends the pause container: it runs nothing, so every signal that ends a process does.
func (c *Container) killPause(sig syscall.Signal) error {
	if err := checkSignal(sig); err != nil {
		return err
	}
	if s := c.Init.State(); s == Stopped || s == Deleted {
		return fmt.Errorf("kill: process has ended: %w", errdefs.ErrNotFound)
	}
	switch sig {
	case 0, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGSTOP:
		return nil
	case syscall.SIGTERM, syscall.SIGINT:
		// The real pause program leaves with 0 on these.
		c.Init.end(Exit{At: time.Now()})
	default:
		c.Init.end(Exit{At: time.Now(), Code: uint32(128 + sig)})
	}
	return nil
}

// Pause freezes all processes of the container.
func (c *Container) Pause() error {
	c.Init.mu.Lock()
	defer c.Init.mu.Unlock()
	if c.image == nil {
		return fmt.Errorf("pause: the pod's pause container runs nothing: %w", errdefs.ErrNotImplemented)
	}
	if err := c.Init.state.pause(); err != nil {
		return err
	}
	if err := c.group.Freeze(); err != nil {
		return errors.Join(err, c.Init.state.resume())
	}
	return nil
}

// Resume lets them go on.
func (c *Container) Resume() error {
	c.Init.mu.Lock()
	defer c.Init.mu.Unlock()
	if err := c.Init.state.resume(); err != nil {
		return err
	}
	return c.group.Thaw()
}

func (c *Container) thaw() error {
	c.Init.mu.Lock()
	defer c.Init.mu.Unlock()
	if c.Init.state != Paused {
		return nil
	}
	return c.group.Thaw()
}

// Update changes the container's limits while it runs.
func (c *Container) Update(r *specs.LinuxResources) error {
	if c.image == nil {
		return nil
	}
	if err := checkLimits(r); err != nil {
		return fmt.Errorf("update container %s: %w", c.ID, err)
	}
	if err := c.group.Update(r); err != nil {
		return err
	}
	if r.Memory == nil || r.Memory.Limit == nil {
		return nil
	}
	c.mu.Lock()
	c.ceiling = ceiling(r)
	c.mu.Unlock()
	if err := c.Init.engine.SetMemory(ceiling(r)); err != nil && c.Init.State().live("update") == nil {
		select {
		case <-c.Init.engine.Done(): // nothing is left to be limited
		default:
			return err
		}
	}
	return nil
}

// Pids are the host's process ids of the container, never none.
func (c *Container) Pids() []int {
	if pids, err := c.group.Pids(); err == nil && len(pids) > 0 {
		return pids
	}
	return []int{c.Init.Pid()}
}

// Stats is what the container has used: containerd's metrics message for the host's cgroups. It works
// until the container is deleted, also after its end; after that its error is NotFound.
func (c *Container) Stats() (metrics.Message, error) {
	stats, err := c.group.Stats()
	if err != nil {
		if c.Init.State() == Deleted {
			err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
		}
		return nil, err
	}
	if n := c.seen.Traffic(); n != nil {
		stats.AddNetwork(n)
	}
	select {
	case <-c.Init.Done():
		if c.Init.Exit().OOM {
			// A guest that died of its own ceiling shows where containerd looks for the kernel's victims, so that a pod
			// reads OOMKilled.
			stats.CountOOM()
		}
	default:
	}
	return stats, nil
}

// remove is Delete's part for one container.
func (c *Container) remove() error {
	state := c.Init.State()
	if state == Running || state == Paused {
		return wrong("delete", state, Created, Stopped)
	}
	c.destroy()
	return nil
}

// destroy ends what runs and gives back all that the container owned.
func (c *Container) destroy() {
	execs := c.shut()
	if c.image != nil {
		c.Init.engine.Kill() // it may have left its cgroup
		_ = c.group.Kill()
		<-c.Init.Done()
	} else {
		c.Init.end(Exit{At: time.Now(), Code: 128 + uint32(syscall.SIGKILL)})
	}
	for _, p := range execs {
		_ = p.remove() // an exec that containerd never deleted
	}
	_ = c.Init.remove()
	c.seen.End()
	c.free()
	if err := c.group.Delete(); err != nil {
		slog.Error("container left its cgroup", "id", c.ID, "error", err)
		return
	}
	if err := c.Bundle.Forget(); err != nil {
		slog.Warn("container left its record", "id", c.ID, "error", err)
	}
}
