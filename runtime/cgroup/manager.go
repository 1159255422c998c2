// Package cgroup gives each container its control group: on cgroup v1, on v2, and on hybrid machines, where
// controllers are v1 and a cgroup2 tree exists beside them.
//
// Processes are born in their group. Moving a running one costs 5 ms and more, for the kernel waits
// until every fork on the machine has seen it.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// deleteWait is how long Delete waits for a group whose last process is just ending.
const deleteWait = time.Second

// leafName is the group below a systemd scope's that holds its processes. When a slice's properties change, systemd
// takes away controllers that none of its own units in there asks for, and limits with them. The kernel refuses
// that (EBUSY) while a group in the slice hands the controllers on, and systemd then leaves them.
const leafName = "engine"

// Options say how a Manager works; the zero value works.
type Options struct {
	// Thread runs once on the thread that starts all processes, before the first; jail.StripThread belongs
	// here. Its error fails every Spawn.
	Thread func() error
}

// Manager creates groups and starts processes in them. Its methods may be used concurrently.
type Manager struct {
	host    *host
	spawner *spawner
}

// Open finds the machine's cgroups. Close the Manager when all processes started through it have ended.
func Open(o Options) (*Manager, error) {
	h, err := readHost()
	if err != nil {
		return nil, err
	}
	return newManager(h, o), nil
}

func newManager(h *host, o Options) *Manager {
	return &Manager{host: h, spawner: newSpawner(h, o.Thread)}
}

// Close ends the thread that started the processes. Those that have Pdeathsig set die with it.
// A second Close does nothing.
func (m *Manager) Close() error {
	m.spawner.close()
	return nil
}

// Warm starts the thread that will start processes, so that the first need not wait for it.
func (m *Manager) Warm() { m.spawner.warm() }

// Spawn runs start on the spawner thread, outside of any group: Pdeathsig then lasts until Close.
func (m *Manager) Spawn(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	return m.spawner.run(nil, func() error { return start(cmd) })
}

// Create makes the group of an OCI linux.cgroupsPath, "/a/b" or systemd's "slice:prefix:name", with the given limits; r
// may be nil. The second form is a directory where systemd would have it, but no unit of systemd. Groups above it are made as needed and stay. A group that exists is taken over when it is
// empty; with processes in it the error is errdefs.ErrAlreadyExists. Limits that the machine has no
// controller for are an error, except device, network and RDMA rules, which are ignored.
func (m *Manager) Create(path string, r *specs.LinuxResources) (*Group, error) {
	g, err := m.group(path)
	if err != nil {
		return nil, err
	}
	if err := g.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("create cgroup %s: %w", path, err), g.removeMade())
	}
	if err := g.apply(r); err != nil {
		return nil, errors.Join(fmt.Errorf("create cgroup %s: %w", path, err), g.removeMade())
	}
	return g, nil
}

// Load adopts a group that exists; errdefs.ErrNotFound if it does not.
func (m *Manager) Load(path string) (*Group, error) {
	g, err := m.group(path)
	if err != nil {
		return nil, err
	}
	found := false
	for _, dir := range g.Dirs() {
		if _, err := os.Stat(dir); err == nil {
			found = true
		}
	}
	if !found {
		return nil, fmt.Errorf("load cgroup %s: %w", path, errdefs.ErrNotFound)
	}
	g.frozen = g.isFrozen()
	return g, nil
}

func (m *Manager) group(path string) (*Group, error) {
	dir, systemd, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	g := &Group{m: m, path: dir}
	if m.host.v2 != "" {
		g.v2 = filepath.Join(m.host.v2, dir)
		g.leaf = g.v2
	}
	if m.host.unified && systemd {
		g.leaf = filepath.Join(g.v2, leafName)
	}
	for _, t := range m.host.v1 {
		g.v1 = append(g.v1, filepath.Join(t.dir, dir))
	}
	return g, nil
}
