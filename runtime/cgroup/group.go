package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is one container's control group. Its methods may be used concurrently.
type Group struct {
	m    *Manager
	path string   // beneath each mount point
	v2   string   // directory in the cgroup2 tree, or ""
	leaf string   // directory in the cgroup2 tree that holds the processes: v2 or one in it
	v1   []string // directories in the trees of m.host.v1, in that order

	mu     sync.Mutex
	frozen bool     // guarded by mu
	made   []string // directories that create made; guarded by mu
}

// UnifiedPath is the group's directory in the cgroup2 tree, where BPF attaches; "" on a machine without one.
func (g *Group) UnifiedPath() string { return g.v2 }

// Dirs are the group's absolute directories, those inside others first, for whoever cleans up when this
// process cannot.
func (g *Group) Dirs() []string {
	dirs := slices.Clone(g.v1)
	if g.leaf != g.v2 {
		dirs = append(dirs, g.leaf)
	}
	if g.v2 != "" {
		dirs = append(dirs, g.v2)
	}
	return dirs
}

func (g *Group) create() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, dir := range g.v1 {
		tree := g.m.host.v1[i]
		var fill func(string) error
		if slices.Contains(tree.controllers, "cpuset") {
			fill = func(dir string) error { return inheritCpuset(tree.dir, dir) }
		}
		if err := g.makeOne(tree.dir, dir, fill); err != nil {
			return err
		}
	}
	if g.v2 == "" {
		return nil
	}
	if err := g.makeOne(g.m.host.v2, g.v2, nil); err != nil {
		return err
	}
	if g.leaf != g.v2 {
		if _, err := makeDir(g.v2, g.leaf, nil); err != nil {
			return err
		}
	}
	if g.m.host.unified {
		return enableControllers(g.m.host.v2, g.leaf)
	}
	return nil
}

// makeOne makes one of the group's directories.
func (g *Group) makeOne(root, dir string, fill func(string) error) error {
	made, err := makeDir(root, dir, fill)
	if made {
		g.made = append(g.made, dir)
		return err
	}
	if err != nil {
		return err
	}
	if dir == g.v2 {
		dir = g.leaf
	}
	left, err := pids(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s holds processes %v: %w", dir, left, errdefs.ErrAlreadyExists)
	}
	return nil
}

// removeMade undoes a create that did not succeed.
func (g *Group) removeMade() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, dir := range g.made {
		errs = append(errs, removeDir(dir, time.Now()))
	}
	return errors.Join(errs...)
}

// Delete removes the group's own directories from every tree, and leaves those above it. Deleting it again
// does nothing. It waits up to 1 s for processes that are ending; for others see Kill.
func (g *Group) Delete() error {
	g.m.spawner.settle()
	g.mu.Lock()
	defer g.mu.Unlock()
	deadline := time.Now().Add(deleteWait)
	var errs []error
	for _, dir := range g.Dirs() {
		errs = append(errs, removeDir(dir, deadline))
	}
	if err := errors.Join(errs...); err != nil {
		left, _ := g.pidsLocked()
		return fmt.Errorf("delete cgroup %s (processes %v): %w", g.path, left, err)
	}
	return nil
}

// Spawn runs start(cmd) so that the process it starts is born in the group: on cgroup2 by
// SysProcAttr.UseCgroupFD (Linux 5.7), which it sets, and on v1 because the thread that starts it is in the group while it
// does. Pdeathsig lasts until the Manager's Close. A frozen group is errdefs.ErrFailedPrecondition; where
// a group above it is frozen, Spawn waits until that is thawed.
func (g *Group) Spawn(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	// A child that is born frozen never gets to its exec, and the thread would wait for that.
	if g.frozen {
		return fmt.Errorf("start in cgroup %s: it is frozen: %w", g.path, errdefs.ErrFailedPrecondition)
	}
	if g.v2 == "" {
		return g.m.spawner.run(g.v1, func() error { return start(cmd) })
	}
	fd, err := unix.Open(g.leaf, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start in cgroup: open %s: %w", g.leaf, err)
	}
	defer unix.Close(fd)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	return g.m.spawner.run(g.v1, func() error { return start(cmd) })
}

// Pids lists the processes in the group, in the numbers of our own PID namespace.
func (g *Group) Pids() ([]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pidsLocked()
}

func (g *Group) pidsLocked() ([]int, error) {
	list, err := pids(g.main())
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %s: %w", g.path, err)
	}
	return list, nil
}

// main is the directory that knows all the group's processes.
func (g *Group) main() string {
	if g.v2 != "" {
		return g.leaf
	}
	return g.v1[0]
}

// dir is the group's directory in the tree with a v1 controller.
func (g *Group) dir(controller string) (string, bool) {
	for i, t := range g.m.host.v1 {
		if slices.Contains(t.controllers, controller) {
			return g.v1[i], true
		}
	}
	return "", false
}

// OOMKills counts the processes of the group that the kernel killed for want of memory. It is 0 without a
// memory controller.
func (g *Group) OOMKills() (uint64, error) {
	dir, file := g.v2, "memory.events"
	if !g.m.host.unified {
		var ok bool
		if dir, ok = g.dir("memory"); !ok {
			return 0, nil
		}
		file = "memory.oom_control"
	}
	n, err := readKey(dir, file, "oom_kill")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read oom kills of cgroup %s: %w", g.path, err)
	}
	return n, nil
}

// Update changes limits; what r leaves out stays as it is. A memory limit below what the group uses now is
// errdefs.ErrFailedPrecondition and changes nothing: the kernel would refuse it (v1) or kill (v2).
func (g *Group) Update(r *specs.LinuxResources) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r == nil {
		return nil
	}
	if r.Memory != nil && r.Memory.Limit != nil && *r.Memory.Limit > 0 {
		used, err := g.memoryUsed()
		if err != nil {
			return fmt.Errorf("update cgroup %s: %w", g.path, err)
		}
		if used > uint64(*r.Memory.Limit) {
			return fmt.Errorf("update cgroup %s: memory limit of %d bytes is below the %d in use: %w",
				g.path, *r.Memory.Limit, used, errdefs.ErrFailedPrecondition)
		}
	}
	if err := g.apply(r); err != nil {
		return fmt.Errorf("update cgroup %s: %w", g.path, err)
	}
	return nil
}

func (g *Group) memoryUsed() (uint64, error) {
	dir, file := g.v2, "memory.current"
	if !g.m.host.unified {
		dir, _ = g.dir("memory")
		file = "memory.usage_in_bytes"
	}
	text, err := read(dir, file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // apply says that there is no controller
	}
	if err != nil {
		return 0, err
	}
	var used uint64
	_, err = fmt.Sscan(strings.TrimSpace(text), &used)
	return used, err
}
