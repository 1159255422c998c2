package server

import (
	"context"

	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/steer"
)

// steering redirects the connections of a pod's containers.
type steering struct {
	steer.Steerer
	namespace string
	cgroups   *cgroup.Manager
}

// wasm is pod.Options.Steer.
func (s *steering) wasm(ctx context.Context, id string, annotations map[string]string, g pod.Group) (end func(), err error) {
	return s.Attach(ctx, s.container(id, annotations, g.UnifiedPath()))
}

// linux is linux.Options.Steer.
func (s *steering) linux(ctx context.Context, id string, annotations map[string]string, pid int) (end func(), err error) {
	if !steer.Wanted(annotations) {
		return func() {}, nil
	}
	unified, _, err := s.cgroups.Locate(pid)
	if err != nil {
		return nil, err
	}
	return s.Attach(ctx, s.container(id, annotations, unified))
}

func (s *steering) container(id string, annotations map[string]string, unified string) steer.Container {
	name := ledger.NameOf(s.namespace, id, annotations).Container
	return steer.Container{ID: id, Name: name, Annotations: annotations, Cgroup: unified}
}
