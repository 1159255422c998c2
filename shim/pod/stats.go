package pod

import (
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
)

// countOOM shows a guest that died of its own ceiling where containerd looks for the kernel's victims, so that a
// pod reads OOMKilled.
func countOOM(metrics any) {
	switch m := metrics.(type) {
	case *v1.Metrics:
		if m.MemoryOomControl == nil {
			m.MemoryOomControl = new(v1.MemoryOomControl)
		}
		m.MemoryOomControl.OomKill = max(m.MemoryOomControl.OomKill, 1)
	case *v2.Metrics:
		if m.MemoryEvents == nil {
			m.MemoryEvents = new(v2.MemoryEvents)
		}
		m.MemoryEvents.OomKill = max(m.MemoryEvents.OomKill, 1)
	}
}
