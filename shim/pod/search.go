package pod

import (
	"context"
	"fmt"

	"github.com/hachi-run/hachi/runtime/wire"
	"github.com/hachi-run/hachi/shim/image"
)

// program is an open module and its compiled form; a toolbox command has neither.
type program struct {
	name string
	wire.Files
}

// open opens m and its compiled form, which is made if need be. The caller closes it.
func (p *Pod) open(ctx context.Context, m *image.Module) (_ program, err error) {
	o := program{name: m.Name}
	if o.Module, err = m.Open(); err != nil {
		return program{}, err
	}
	if o.Artifact, err = p.o.Artifacts.Get(ctx, m.Digest, o.Module); err != nil {
		o.Close()
		return program{}, fmt.Errorf("prepare module %s: %w", m.Name, err)
	}
	return o, nil
}

// found is what a new container runs.
type found struct {
	image *image.Image
	program
}

// search is the way there, which takes a question to containerd and, for a new module, a compilation.
type search struct {
	cancel context.CancelFunc
	known  chan struct{} // closed when it is known what the container is
	done   chan struct{}
	found  found // set before done is closed
	kind   error // set before known is closed: why it is no Wasm container
	err    error // set before done is closed
}

// search begins; the caller closes it.
func (p *Pod) search(ctx context.Context, find func(context.Context) (*image.Image, error)) *search {
	ctx, cancel := context.WithCancel(ctx)
	s := &search{cancel: cancel, known: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.found.image, s.kind = find(ctx)
		if s.kind == nil && s.found.image.Kind != image.Wasm {
			s.kind = ErrLinux
		}
		close(s.known)
		if s.err = s.kind; s.err == nil {
			s.found.program, s.err = p.open(ctx, &s.found.image.Modules[0])
		}
	}()
	return s
}

// judge waits until it is known what the container is, and returns why it is no Wasm container.
func (s *search) judge() error {
	<-s.known
	return s.kind
}

// wait waits for the result, or for the end of the search's context.
func (s *search) wait() (found, error) {
	<-s.done
	return s.found, s.err
}

// close ends the search and closes what it found.
func (s *search) close() {
	s.cancel()
	<-s.done
	s.found.Close()
}
