package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/toolbox"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/stdio"
)

// execProcess is what an exec will run when it is started.
type execProcess struct {
	spec   *specs.Process
	module *image.Module // nil is a toolbox command
}

// Exec adds a process to the running container; Start runs it. It can be another module of the image, the same
// module with other arguments, or a word of the toolbox; anything else is NotImplemented.
func (c *Container) Exec(id string, spec *specs.Process, io stdio.Config) (*Process, error) {
	if c.image == nil {
		return nil, fmt.Errorf("exec in container %s: the pause container runs nothing: %w", c.ID, errdefs.ErrNotImplemented)
	}
	if err := c.Init.State().live("exec"); err != nil {
		return nil, err
	}
	run, err := c.resolve(spec)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	p := newProcess(id, io)
	p.exec = run
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.Err() != nil {
		return nil, fmt.Errorf("exec in container %s: it has ended: %w", c.ID, errdefs.ErrFailedPrecondition)
	}
	if _, ok := c.execs[id]; ok {
		return nil, fmt.Errorf("exec %s in container %s: %w", id, c.ID, errdefs.ErrAlreadyExists)
	}
	c.execs[id] = p
	return p, nil
}

// resolve finds what the words of an exec mean. A module of the image goes before the toolbox.
func (c *Container) resolve(spec *specs.Process) (*execProcess, error) {
	if len(spec.Args) == 0 {
		return nil, fmt.Errorf("no command: %w", errdefs.ErrInvalidArgument)
	}
	if spec.Args[0] == c.Bundle.Spec.Process.Args[0] {
		return &execProcess{spec: spec, module: &c.image.Modules[0]}, nil
	}
	m, err := c.image.Find(spec)
	switch {
	case err == nil:
		return &execProcess{spec: spec, module: m}, nil
	case !errors.Is(err, errdefs.ErrNotFound):
		return nil, err
	case toolbox.Has(spec.Args[0]):
		return &execProcess{spec: spec}, nil
	default:
		return nil, fmt.Errorf("%q is neither a Wasm module of the image nor a toolbox command (%s): %w",
			spec.Args[0], strings.Join(toolbox.Words(), " "), errdefs.ErrNotImplemented)
	}
}

// startExec loads and runs p.
func (c *Container) startExec(ctx context.Context, p *Process) error {
	if err := c.admit(p); err != nil {
		return fmt.Errorf("start exec %s: %w", p.ID, err)
	}
	// The end of the container ends the attempt too, or the container's own exit would wait for it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ending, cancel)()
	if err := c.loadExec(ctx, p); err != nil {
		p.abandon()
		c.running.Done()
		return fmt.Errorf("start exec %s: %w", p.ID, err)
	}
	go func() {
		defer c.running.Done()
		<-p.engine.Done()
		p.end(c.verdict(p))
	}()
	if c.ending.Err() != nil {
		p.engine.Kill() // it may have been born after everybody was killed
	}
	if err := p.start(); err != nil {
		return fmt.Errorf("start exec %s: %w", p.ID, err)
	}
	return nil
}

// admit claims p for one start and counts it among what runs, unless the container is at its end.
func (c *Container) admit(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.Err() != nil {
		return fmt.Errorf("container has ended: %w", errdefs.ErrFailedPrecondition)
	}
	if err := p.begin(); err != nil {
		return err
	}
	c.running.Add(1)
	return nil
}

func (c *Container) loadExec(ctx context.Context, p *Process) error {
	// The first process's root, with all its mounts, whoever looks at it from outside.
	path := fmt.Sprintf("/proc/%d/root", c.Init.Pid())
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open root of the container: %w", err)
	}
	root := os.NewFile(uintptr(fd), path)
	defer root.Close()
	// If the first process is still there now, the number was its own when the root was opened, and not a stranger's.
	if err := c.Init.engine.Signal(0); err != nil {
		return fmt.Errorf("container has ended: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	var run program
	if p.exec.module != nil {
		if run, err = c.pod.open(ctx, p.exec.module); err != nil {
			return err
		}
		defer run.Close()
	}
	// No new namespaces: it enters the first process's root by descriptor.
	return c.launch(ctx, p, launch{process: p.exec.spec, guest: func() (engine.Guest, error) {
		g := c.guest(p.exec.spec, run)
		g.Root = root
		return g, nil
	}})
}

// DeleteExec removes an exec that has ended or was not started.
func (c *Container) DeleteExec(id string) (*Process, error) {
	p, err := c.Process(id)
	if err != nil {
		return nil, err
	}
	if err := p.remove(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[id] == p {
		delete(c.execs, id)
	}
	return p, nil
}
