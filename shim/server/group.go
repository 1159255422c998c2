package server

import (
	"os/exec"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/reap"
)

// groups makes cgroups whose processes the server's reaper collects.
type groups struct {
	*cgroup.Manager
	reaper *reap.Reaper
}

// Create implements pod.Groups.
func (g groups) Create(path string, r *specs.LinuxResources) (pod.Group, error) {
	made, err := g.Manager.Create(path, r)
	if err != nil {
		return nil, err
	}
	return group{made, g.reaper}, nil
}

// usage reads the metrics of a cgroup that is somebody else's.
func (g groups) usage(path string) (metrics.Message, error) {
	found, err := g.Load(path)
	if err != nil {
		return nil, err
	}
	return found.Stats()
}

// start starts a child outside of any group. It dies with the server.
func (g groups) start(cmd *exec.Cmd) (wait func() int, err error) {
	err = g.Spawn(cmd, func(cmd *exec.Cmd) (err error) {
		wait, err = g.reaper.Start(cmd)
		return err
	})
	return wait, err
}

type group struct {
	*cgroup.Group
	reaper *reap.Reaper
}

// Starter implements pod.Group.
func (g group) Starter() engine.Starter {
	return func(cmd *exec.Cmd) (wait func() int, err error) {
		err = g.Spawn(cmd, func(cmd *exec.Cmd) (err error) {
			wait, err = g.reaper.Start(cmd)
			return err
		})
		return wait, err
	}
}
