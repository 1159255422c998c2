package cgroup

import (
	"fmt"
	"os"
	"slices"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// Stats returns containerd's metrics of the group in the host's mode: *metrics.V2 when controllers are on cgroup2,
// otherwise *metrics.V1. It works until Delete, with or without processes; after it the error is os.ErrNotExist. Values
// that the machine does not account for are zero; a v2 group without a memory limit reports math.MaxUint64 as
// limit. A control file that says something else than it should is an error.
func (g *Group) Stats() (metrics.Message, error) {
	if !slices.ContainsFunc(g.Dirs(), exists) {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, os.ErrNotExist)
	}
	var m metrics.Message
	var err error
	if g.m.host.unified {
		m, err = statsV2(g.v2)
	} else {
		m, err = g.statsV1()
	}
	if err != nil {
		return nil, fmt.Errorf("read metrics of cgroup %s: %w", g.path, err)
	}
	return m, nil
}
