package pod

import (
	"context"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// Observer keeps account of what containers do.
type Observer interface {
	// Observe begins with a container that has a cgroup and no process. It does not wait: Observation.Ready does.
	Observe(id string, annotations map[string]string, g Group) Observation
}

// Observation is the account of one container. Its methods are safe for concurrent use.
type Observation interface {
	// Ready returns when everything that the container does from then on is accounted for, or will not be. A container
	// never fails for want of an account.
	Ready(ctx context.Context)
	// Traffic is what the container has sent and received so far, which its cgroup does not know; nil when nobody counts.
	Traffic() *metrics.Network
	// End takes the last reading; the cgroup must still be there. Further calls of End or Undo do nothing.
	End()
	// Undo is End for a container that came to nothing.
	Undo()
}

// unobserved is an Observer that sees nothing, and its every Observation.
type unobserved struct{}

func (unobserved) Observe(string, map[string]string, Group) Observation { return unobserved{} }
func (unobserved) Ready(context.Context)                                {}
func (unobserved) Traffic() *metrics.Network                            { return nil }
func (unobserved) End()                                                 {}
func (unobserved) Undo()                                                {}
