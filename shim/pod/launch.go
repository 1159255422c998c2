package pod

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/wire"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/stdio"
)

// launch is what to load into a new engine.
type launch struct {
	process *specs.Process
	// module is the guest; nil is a toolbox command.
	module    *image.Module
	listeners []engine.Listener
	// root is the container's root as its first process built it; nil builds it.
	root *os.File
}

// launch starts an engine in the container's cgroup and waits until its guest is loaded.
func (c *Container) launch(ctx context.Context, p *Process, l launch) (err error) {
	if err := checkUser(l.process.User); err != nil {
		return err
	}
	var module, artifact *os.File
	name := l.process.Args[0]
	if l.module != nil {
		name = l.module.Name
		if module, err = l.module.Open(); err != nil {
			return err
		}
		defer module.Close()
		if artifact, err = c.pod.o.Artifacts.Get(ctx, l.module.Digest, module); err != nil {
			return fmt.Errorf("prepare module %s: %w", name, err)
		}
		defer artifact.Close()
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
	flags := c.root.cloneflags
	config := wire.Config{
		Args:     l.process.Args,
		Env:      l.process.Env,
		Cwd:      l.process.Cwd,
		Preopens: []wire.Preopen{{Guest: "/", Path: "/"}},
		Memory:   c.memoryCeiling(),
		Jail:     c.root.jailFor(l.process),
	}
	if l.root != nil {
		flags = 0 // it enters the first process's root by descriptor
	}
	e, err := engine.Start(engine.Options{
		Binary: c.pod.o.Engine, Config: config,
		Module: module, Artifact: artifact, Name: name,
		Root: l.root, Listeners: l.listeners,
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
		Terminal: p.IO.Terminal, Cloneflags: flags, Starter: c.group.Starter(),
	})
	if err != nil {
		return c.explain(err)
	}
	if err := e.Ready(ctx); err != nil {
		return c.explain(err)
	}
	p.adopt(e, streams)
	return nil
}

// explain says why an engine may not have come up.
func (c *Container) explain(err error) error {
	const threads = 16 // more than an engine ever has while it loads
	pids := resources(c.Bundle.Spec).Pids
	switch {
	case errors.Is(err, engine.ErrRefused):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case pids != nil && pids.Limit != nil && *pids.Limit > 0 && *pids.Limit < threads:
		return fmt.Errorf("%w (threads count too, and the pids limit is %d: make it %d or more)", err, *pids.Limit, threads)
	}
	return err
}
