package cgroup

import (
	"fmt"
	"math"

	"github.com/containerd/cgroups/v3/cgroup1"
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

func (g *Group) statsV1() (any, error) {
	trees := func() ([]cgroup1.Subsystem, error) {
		var list []cgroup1.Subsystem
		for _, c := range g.m.v1 {
			list = append(list, c.Subsystem)
		}
		return list, nil
	}
	loaded, err := cgroup1.Load(cgroup1.StaticPath(g.path), cgroup1.WithHierarchy(trees))
	if err != nil {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
	}
	metrics, err := loaded.Stat(cgroup1.IgnoreNotExist)
	if err != nil {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
	}
	return metrics, nil
}
