package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
)

// Stats returns containerd's metrics of the group in the host's mode, as its typeurl knows them: *stats.Metrics of
// cgroup2 when controllers are on cgroup2, otherwise that of cgroup1. It works until Delete, with or
// without processes. Values that the machine does not account for are zero; a v2 group without a memory limit
// reports math.MaxUint64 as limit.
func (g *Group) Stats() (any, error) {
	if !g.m.host.unified {
		return g.statsV1()
	}
	loaded, err := cgroup2.Load(g.path, cgroup2.WithMountpoint(g.m.host.v2))
	if err != nil {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
	}
	metrics, err := loaded.Stat()
	if err != nil {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
	}
	if metrics.Memory != nil && metrics.Memory.UsageLimit == 0 {
		// CRI subtracts the usage from it.
		metrics.Memory.UsageLimit = math.MaxUint64
	}
	return metrics, nil
}

// stater is what those of containerd's library have that keep counters.
type stater interface {
	Stat(path string, metrics *v1.Metrics) error
}

// statsV1 asks one controller after the other. The library asks all at once, which costs a server that is idle but for
// this question every second more than twice the processor time.
func (g *Group) statsV1() (any, error) {
	if !exists(g.main()) {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, cgroup1.ErrCgroupDeleted)
	}
	metrics := &v1.Metrics{CPU: &v1.CPUStat{Throttling: new(v1.Throttle), Usage: new(v1.CPUUsage)}}
	for _, c := range g.m.v1 {
		s, ok := c.Subsystem.(stater)
		if !ok {
			continue
		}
		if err := s.Stat(g.path, metrics); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
		}
	}
	return metrics, nil
}
