package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// applyV1 writes each setting into the tree of its controller, whose name a control file's begins with.
func (g *Group) applyV1(r *specs.LinuxResources) error {
	held := int64(math.MaxInt64)
	if m := r.Memory; m != nil && m.Limit != nil && m.Swap != nil {
		var err error
		if held, err = g.swapLimit(); err != nil {
			return fmt.Errorf("set memory limits: %w", err)
		}
	}
	for _, s := range settingsV1(r, held) {
		controller, _, _ := strings.Cut(s.file, ".")
		dir, ok := g.dir(controller)
		if !ok && s.optional {
			continue
		}
		if !ok {
			return missing(controller)
		}
		err := write(dir, s.file, s.value)
		if s.optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("set %s limits: %w", controller, explain(err))
		}
	}
	return nil
}

const swapLimitFile = "memory.memsw.limit_in_bytes"

// swapLimit is the group's present limit of memory and swap together, in bytes; the largest number where nothing
// accounts for swap.
func (g *Group) swapLimit() (int64, error) {
	dir, ok := g.dir("memory")
	if !ok {
		return math.MaxInt64, nil
	}
	text, err := read(dir, swapLimitFile)
	if errors.Is(err, os.ErrNotExist) {
		return math.MaxInt64, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", dir, swapLimitFile, err)
	}
	return n, nil
}

// settingsV1 is r in the order in which the kernel takes it, for a group whose limit of memory and swap together is
// held now.
func settingsV1(r *specs.LinuxResources, held int64) []setting {
	var out []setting
	if c := r.CPU; c != nil {
		for _, s := range []setting{{file: "cpuset.cpus", value: c.Cpus}, {file: "cpuset.mems", value: c.Mems}} {
			if s.value != "" {
				out = append(out, s)
			}
		}
	}
	if r.Memory != nil {
		out = append(out, memoryV1(r.Memory, held)...)
	}
	if c := r.CPU; c != nil {
		out = number(out, "cpu.rt_period_us", c.RealtimePeriod)
		out = number(out, "cpu.rt_runtime_us", c.RealtimeRuntime)
		out = number(out, "cpu.shares", c.Shares)
		out = number(out, "cpu.cfs_period_us", c.Period)
		out = number(out, "cpu.cfs_quota_us", c.Quota)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		out = append(out, setting{file: "pids.max", value: orMax(*r.Pids.Limit)})
	}
	if r.BlockIO != nil {
		out = append(out, blkioV1(r.BlockIO)...)
	}
	for _, h := range r.HugepageLimits {
		// CRI lists every page size of the machine, and guests cannot have any.
		out = append(out, setting{file: "hugetlb." + h.Pagesize + ".limit_in_bytes", value: strconv.FormatUint(h.Limit, 10), optional: true})
	}
	return out
}

// number appends the setting for a number, unless it is left out.
func number[N int64 | uint64 | uint16](to []setting, file string, n *N) []setting {
	if n == nil {
		return to
	}
	return append(to, setting{file: file, value: fmt.Sprint(*n)})
}

// memoryV1 leaves out limits on kernel memory, which Linux 6 ignores and then forgot.
func memoryV1(m *specs.LinuxMemory, held int64) []setting {
	var out []setting
	// At no time may the limit of memory be above that of memory and swap together: what raises the latter comes first.
	raises := m.Swap != nil && (*m.Swap < 0 || *m.Swap > held)
	if raises {
		out = number(out, swapLimitFile, m.Swap)
	}
	out = number(out, "memory.limit_in_bytes", m.Limit)
	out = number(out, "memory.soft_limit_in_bytes", m.Reservation)
	if !raises {
		out = number(out, swapLimitFile, m.Swap)
	}
	if m.DisableOOMKiller != nil {
		value := "0"
		if *m.DisableOOMKiller {
			value = "1"
		}
		out = append(out, setting{file: "memory.oom_control", value: value})
	}
	return number(out, "memory.swappiness", m.Swappiness)
}

func blkioV1(b *specs.LinuxBlockIO) []setting {
	out := number(nil, "blkio.weight", b.Weight)
	out = number(out, "blkio.leaf_weight", b.LeafWeight)
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			out = append(out, setting{file: "blkio.weight_device", value: fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight)})
		}
		if d.LeafWeight != nil {
			out = append(out, setting{file: "blkio.leaf_weight_device", value: fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.LeafWeight)})
		}
	}
	for _, limits := range []struct {
		file    string
		devices []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", b.ThrottleReadBpsDevice}, {"blkio.throttle.read_iops_device", b.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_bps_device", b.ThrottleWriteBpsDevice}, {"blkio.throttle.write_iops_device", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range limits.devices {
			out = append(out, setting{file: limits.file, value: fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate)})
		}
	}
	return out
}
