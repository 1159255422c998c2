package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func applyV2(dir string, r *specs.LinuxResources) error {
	settings, err := settingsV2(r)
	if err != nil {
		return err
	}
	for _, s := range settings {
		err := write(dir, s.file, s.value)
		if s.optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			controller, _, _ := strings.Cut(s.file, ".")
			return fmt.Errorf("%w: %w", missing(controller), err)
		}
		if err != nil {
			return fmt.Errorf("set limits: %w", explain(err))
		}
	}
	return nil
}

// settingsV2 translates the v1 terms of the OCI specification as its section "Unified" and runc do.
func settingsV2(r *specs.LinuxResources) ([]setting, error) {
	var out []setting
	add := func(file, value string) { out = append(out, setting{file: file, value: value}) }
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares != 0 {
			add("cpu.weight", strconv.FormatUint(weight(*c.Shares), 10))
		}
		if c.Idle != nil {
			add("cpu.idle", strconv.FormatInt(*c.Idle, 10))
		}
		if c.Quota != nil || c.Period != nil {
			limit := "max"
			if c.Quota != nil {
				limit = orMax(*c.Quota)
			}
			if c.Period != nil && *c.Period != 0 {
				limit += " " + strconv.FormatUint(*c.Period, 10)
			}
			add("cpu.max", limit)
		}
		if c.Cpus != "" {
			add("cpuset.cpus", c.Cpus)
		}
		if c.Mems != "" {
			add("cpuset.mems", c.Mems)
		}
	}
	memory, err := memoryV2(r.Memory)
	if err != nil {
		return nil, err
	}
	out = append(out, memory...)
	if r.Pids != nil && r.Pids.Limit != nil {
		add("pids.max", orMax(*r.Pids.Limit))
	}
	for _, h := range r.HugepageLimits {
		out = append(out, setting{file: "hugetlb." + h.Pagesize + ".max", value: strconv.FormatUint(h.Limit, 10), optional: true})
	}
	out = append(out, ioV2(r.BlockIO)...)
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		if strings.ContainsAny(file, "/\x00") || !strings.Contains(file, ".") || strings.HasPrefix(file, "cgroup.") {
			return nil, fmt.Errorf("unified resource %q: not a controller's file: %w", file, errdefs.ErrInvalidArgument)
		}
		add(file, r.Unified[file])
	}
	return out, nil
}

// weight turns v1's shares of the processors, 2 to 262144 with 1024 for everybody, into a weight of cgroup2, 1 to 10000
// with 100 for everybody: by the curve through these three points that runc and Kubernetes use since 2025.
func weight(shares uint64) uint64 {
	l := math.Log2(float64(min(max(shares, 2), 1<<18)))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func memoryV2(m *specs.LinuxMemory) ([]setting, error) {
	if m == nil {
		return nil, nil
	}
	var out []setting
	if m.Swap != nil && *m.Swap != 0 {
		// v1 counts swap and memory together.
		swap := *m.Swap
		if swap > 0 {
			if m.Limit == nil || *m.Limit <= 0 || swap < *m.Limit {
				return nil, fmt.Errorf("memory and swap limit of %d bytes: needs a memory limit that is not above it: %w", swap, errdefs.ErrInvalidArgument)
			}
			swap -= *m.Limit
		}
		value := orMax(swap)
		if swap == 0 {
			value = "0"
		}
		out = append(out, setting{file: "memory.swap.max", value: value, optional: swap <= 0})
	}
	if m.Limit != nil && *m.Limit != 0 {
		out = append(out, setting{file: "memory.max", value: orMax(*m.Limit)})
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		out = append(out, setting{file: "memory.low", value: orMax(*m.Reservation)})
	}
	return out, nil
}

func ioV2(b *specs.LinuxBlockIO) []setting {
	if b == nil {
		return nil
	}
	var out []setting
	if b.Weight != nil && *b.Weight != 0 {
		// BFQ's files keep v1's range of 1 to 1000.
		out = append(out, setting{file: "io.bfq.weight", value: strconv.Itoa(int(*b.Weight))})
	}
	for _, limits := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{
		{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice},
		{"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range limits.devices {
			out = append(out, setting{file: "io.max", value: fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, limits.key, d.Rate)})
		}
	}
	return out
}

func orMax(n int64) string {
	if n <= 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}
