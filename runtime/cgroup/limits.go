package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// apply sets limits on whichever version has the controllers.
func (g *Group) apply(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	if g.m.host.unified {
		return applyV2(g.v2, r)
	}
	return g.applyV1(r)
}

// applyV1 leaves all but cpusets, which it does with fewer reads, to containerd's library.
func (g *Group) applyV1(r *specs.LinuxResources) error {
	if err := g.applyCpuset(r); err != nil {
		return err
	}
	limits := forV1(r)
	if err := g.raiseSwap(limits.Memory); err != nil {
		return fmt.Errorf("set memory limits: %w", explain(err))
	}
	for _, name := range named(limits) {
		u := g.m.updater(name)
		if u == nil && name == "hugetlb" {
			continue // CRI lists every page size of the machine, and guests cannot have any
		}
		if u == nil {
			return missing(name)
		}
		if err := u.Update(g.path, limits); err != nil {
			return fmt.Errorf("set %s limits: %w", name, explain(err))
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit <= 0 {
		// The library takes this for "no limit to set", not for "no limit".
		dir, _ := g.dir("pids")
		if err := write(dir, "pids.max", "max"); err != nil {
			return fmt.Errorf("set pids limits: %w", err)
		}
	}
	return nil
}

// raiseSwap lifts the limit of memory and swap together out of the way of a higher memory limit, which the kernel
// refuses above it. The library means to and changes places with the soft limit instead (containerd/cgroups v3.1.3).
func (g *Group) raiseSwap(m *specs.LinuxMemory) error {
	if m == nil || m.Limit == nil || m.Swap == nil {
		return nil
	}
	const file = "memory.memsw.limit_in_bytes"
	dir, ok := g.dir("memory")
	if !ok {
		return nil // the library says so
	}
	text, err := read(dir, file)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no accounting of swap
	} else if err != nil {
		return err
	}
	now, err := strconv.ParseInt(text, 10, 64)
	if err != nil || *m.Swap >= 0 && *m.Swap <= now {
		return err
	}
	return write(dir, file, strconv.FormatInt(*m.Swap, 10))
}

// forV1 is r without what this kernel generation has no file for: limits on kernel memory, which Linux 6 ignores and
// then forgot.
func forV1(r *specs.LinuxResources) *specs.LinuxResources {
	out := *r
	if r.Memory != nil {
		m := *r.Memory
		m.Kernel, m.KernelTCP = nil, nil //nolint:staticcheck // deprecated, and dropped here for that reason
		out.Memory = &m
	}
	return &out
}

// named lists the v1 controllers that r has limits for.
func named(r *specs.LinuxResources) []string {
	var names []string
	if r.Memory != nil {
		names = append(names, "memory")
	}
	if c := r.CPU; c != nil && (c.Shares != nil || c.Quota != nil || c.Period != nil || c.RealtimePeriod != nil || c.RealtimeRuntime != nil) {
		names = append(names, "cpu")
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		names = append(names, "pids")
	}
	if r.BlockIO != nil {
		names = append(names, "blkio")
	}
	if len(r.HugepageLimits) > 0 {
		names = append(names, "hugetlb")
	}
	return names
}

func (m *Manager) updater(name string) updater {
	for _, c := range m.v1 {
		if c.name == name {
			u, _ := c.Subsystem.(updater)
			return u
		}
	}
	return nil
}

func (g *Group) applyCpuset(r *specs.LinuxResources) error {
	if r.CPU == nil || r.CPU.Cpus == "" && r.CPU.Mems == "" {
		return nil
	}
	dir, ok := g.dir("cpuset")
	if !ok {
		return missing("cpuset")
	}
	for file, value := range map[string]string{"cpuset.cpus": r.CPU.Cpus, "cpuset.mems": r.CPU.Mems} {
		if value == "" {
			continue
		}
		if err := write(dir, file, value); err != nil {
			return fmt.Errorf("set cpuset limits: %w", explain(err))
		}
	}
	return nil
}

// inheritCpuset fills a new v1 cpuset, which starts without processors and takes no process until it has some. A group
// above it that another pod has made just now may still be without: whoever needs it first fills it.
func inheritCpuset(root, dir string) error {
	parent := filepath.Dir(dir)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		above, err := read(parent, file)
		if err == nil && above == "" && parent != root {
			if err = inheritCpuset(root, parent); err == nil {
				above, err = read(parent, file)
			}
		}
		if err != nil {
			return err
		}
		if err := write(dir, file, above); err != nil {
			return err
		}
	}
	return nil
}

func missing(controller string) error {
	return fmt.Errorf("set %s limits: this machine has no %s controller: %w", controller, controller, errdefs.ErrFailedPrecondition)
}

// explain adds what the kernel's errno means on a limit file.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (below what is in use and cannot be reclaimed)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (not a valid value, or more than the group above allows)", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w (this kernel does not account for it)", err)
	}
	return err
}
