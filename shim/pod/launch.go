package pod

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/wire"
	"github.com/hachi-run/hachi/shim/stdio"
)

// launch is how a new engine is born and what it then runs.
type launch struct {
	process    *specs.Process
	cloneflags uintptr
	// guest is called when the process is on its way.
	guest func() (engine.Guest, error)
}

// launch starts an engine in the container's cgroup and waits until its guest is loaded.
func (c *Container) launch(ctx context.Context, p *Process, l launch) (err error) {
	if err := checkUser(l.process.User); err != nil {
		return err
	}
	streams, err := stdio.Open(ctx, p.IO)
	if err != nil {
		return err
	}
	defer func() {
		streams.Started()
		if err != nil {
			streams.Close()
		}
	}()
	e, err := engine.Start(engine.Options{
		Binary: c.pod.o.Engine,
		Stdin:  streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
		Terminal: p.IO.Terminal, Cloneflags: l.cloneflags, Starter: c.group.Starter(),
	})
	if err != nil {
		return c.explain(err)
	}
	g, err := l.guest()
	if err != nil {
		e.Kill()
		<-e.Done()
		return err
	}
	c.seen.Ready(ctx) // before there can be a socket of the guest's
	if err := e.Load(ctx, g); err != nil {
		return c.explain(err)
	}
	p.adopt(e, streams)
	return nil
}

// guest is what an engine of the container is told to run.
func (c *Container) guest(process *specs.Process, p program) engine.Guest {
	g := engine.Guest{Name: process.Args[0], Config: wire.Config{
		Args:     process.Args,
		Env:      process.Env,
		Cwd:      process.Cwd,
		Preopens: []wire.Preopen{{Guest: "/", Path: "/"}},
		Memory:   c.memoryCeiling(),
		Jail:     c.root.jailFor(process),
	}}
	if p.Module != nil {
		g.Name, g.Module, g.Artifact = p.name, p.Module, p.Artifact
	}
	return g
}

// explain says why an engine may not have come up.
func (c *Container) explain(err error) error {
	const threads = 16 // more than an engine ever has while it loads
	pids := resources(c.Bundle.Spec).Pids
	switch {
	case errors.Is(err, engine.ErrListen):
		return fmt.Errorf("%w (set annotation %s to other ports, or none): %w", err, listenAnnotation, errdefs.ErrFailedPrecondition)
	case errors.Is(err, engine.ErrRefused):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case pids != nil && pids.Limit != nil && *pids.Limit > 0 && *pids.Limit < threads:
		return fmt.Errorf("%w (threads count too, and the pids limit is %d: make it %d or more)", err, *pids.Limit, threads)
	}
	return err
}
