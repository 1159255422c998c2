// Package steer has the connections that a pod's containers make go to the pod's mesh endpoint, where its annotations
// ask for that; see redirect.ParseConfig.
//
// The endpoint is a container of the pod. What it does itself is not redirected, and the sockets that it accepts know
// their original destination (SO_ORIGINAL_DST). While no endpoint listens, connections are refused, unless the pod says
// otherwise: for the same reason a container that cannot be redirected does not start.
package steer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/bpf/redirect"
)

// Endpoint is the annotation that names the container with the endpoint.
const Endpoint = redirect.Prefix + "endpoint"

// Container is what is to be known of one.
type Container struct {
	// ID is containerd's, Name the container's in its pod.
	ID, Name    string
	Annotations map[string]string
	// Cgroup is its directory in the cgroup2 tree; empty on a machine without one.
	Cgroup string
}

// Steerer redirects the containers of one pod; the zero value works. Its methods are safe for concurrent use.
type Steerer struct {
	// Options are redirect's.
	Options redirect.Options

	mu     sync.Mutex
	opened *redirect.Redirector // guarded by mu; nil until a container wants it
}

// Wanted tells whether annotations ask for anything here.
func Wanted(annotations map[string]string) bool {
	for name := range annotations {
		if strings.HasPrefix(name, redirect.Prefix) {
			return true
		}
	}
	return false
}

// Attach does for a container what its annotations ask for, and returns what ends that: to be called when nothing of the
// container runs any more, and as long as its cgroup is there. It must come before the container's first connection.
func (s *Steerer) Attach(ctx context.Context, c Container) (end func(), err error) {
	if !Wanted(c.Annotations) {
		return func() {}, nil
	}
	endpoint, config, err := parse(c.Annotations)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if endpoint != c.Name && config.Outbound.Port == 0 {
		return func() {}, nil
	}
	if end, err = s.attach(ctx, c, endpoint == c.Name, config); err == nil {
		return end, nil
	}
	if config.FailOpen {
		slog.Warn("connections are not redirected", "id", c.ID, "error", err)
		return func() {}, nil
	}
	return nil, fmt.Errorf("%w (or annotate the pod with %sfail=open)", err, redirect.Prefix)
}

// parse takes the endpoint's name out of the annotations, of which package redirect knows the rest.
func parse(annotations map[string]string) (endpoint string, c redirect.Config, err error) {
	rest := maps.Clone(annotations)
	delete(rest, Endpoint)
	if c, err = redirect.ParseConfig(rest); err != nil {
		return "", c, err
	}
	endpoint = annotations[Endpoint]
	if endpoint == "" {
		return "", c, fmt.Errorf("annotation %s: missing (name the container that takes the redirected connections)", Endpoint)
	}
	if len(c.Inbound.Ports) > 0 {
		return "", c, fmt.Errorf("annotation %sinbound: connections to a pod are not redirected yet (leave it out)", redirect.Prefix)
	}
	return endpoint, c, nil
}

func (s *Steerer) attach(ctx context.Context, c Container, endpoint bool, config redirect.Config) (end func(), err error) {
	if c.Cgroup == "" {
		return nil, fmt.Errorf("redirect connections: this machine has no cgroup2 file system: %w (mount -t cgroup2 none /sys/fs/cgroup/unified)", errdefs.ErrFailedPrecondition)
	}
	r, err := s.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("redirect connections: %w", err)
	}
	if endpoint {
		id, err := r.AttachEndpoint(ctx, c.Cgroup, true)
		if err != nil {
			return nil, fmt.Errorf("redirect connections: %w", err)
		}
		return ending(c.ID, func(ctx context.Context) error { return r.DetachEndpoint(ctx, id) }), nil
	}
	ids, err := r.Attach(ctx, redirect.Pod{Cgroups: []string{c.Cgroup}, Config: config})
	if err != nil {
		return nil, fmt.Errorf("redirect connections: %w", err)
	}
	return ending(c.ID, func(ctx context.Context) error { return r.Detach(ctx, ids...) }), nil
}

// ending makes an end of a detach. Others may have collected first.
func ending(id string, detach func(context.Context) error) func() {
	return sync.OnceFunc(func() {
		if err := detach(context.Background()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Error("container left its redirection", "id", id, "error", err)
		}
	})
}

func (s *Steerer) open(ctx context.Context) (*redirect.Redirector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != nil {
		return s.opened, nil
	}
	r, err := redirect.Open(ctx, s.Options)
	if err != nil {
		return nil, err
	}
	s.opened = r
	return r, nil
}

// Close gives descriptors back. What is redirected stays so.
func (s *Steerer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil {
		return nil
	}
	err := s.opened.Close()
	s.opened = nil
	return err
}
