package cgroup

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// library is containerd's library for the v1 controllers of a machine. It finds a tree by its controller's name beside
// the other trees.
func library(t testing.TB, h *host) map[string]cgroup1.Subsystem {
	t.Helper()
	all := make(map[string]cgroup1.Subsystem)
	for _, tree := range h.v1 {
		root := filepath.Dir(tree.dir)
		for _, name := range tree.controllers {
			switch name {
			case "blkio":
				all[name] = cgroup1.NewBlkio(root)
			case "cpu":
				all[name] = cgroup1.NewCpu(root)
			case "cpuacct":
				all[name] = cgroup1.NewCpuacct(root)
			case "cpuset":
				all[name] = cgroup1.NewCpuset(root)
			case "memory":
				all[name] = cgroup1.NewMemory(root, cgroup1.OptionalSwap())
			case "pids":
				all[name] = cgroup1.NewPids(root)
			case "hugetlb":
				c, err := cgroup1.NewHugetlb(root)
				if err != nil {
					t.Fatal(err)
				}
				all[name] = c
			}
		}
	}
	return all
}

// libraryStats returns what reads a group with the library.
func libraryStats(t testing.TB, g *Group) func() proto.Message {
	t.Helper()
	if g.m.host.unified {
		return func() proto.Message { return libraryStatsV2(t, g) }
	}
	type stater interface {
		Stat(path string, m *v1.Metrics) error
	}
	all := library(t, g.m.host)
	return func() proto.Message {
		m := &v1.Metrics{CPU: &v1.CPUStat{Throttling: new(v1.Throttle), Usage: new(v1.CPUUsage)}}
		for name, c := range all {
			if s, ok := c.(stater); ok {
				if err := s.Stat(g.path, m); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		return m
	}
}

func libraryStatsV2(t testing.TB, g *Group) *v2.Metrics {
	loaded, err := cgroup2.Load(g.path, cgroup2.WithMountpoint(g.m.host.v2))
	if err != nil {
		t.Fatal(err)
	}
	m, err := loaded.Stat()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(m.Hugetlb, func(a, b *v2.HugeTlbStat) int { return strings.Compare(a.Pagesize, b.Pagesize) })
	m.Rdma = nil // what this package does not say
	if m.Memory.UsageLimit == 0 {
		m.Memory.UsageLimit = math.MaxUint64
	}
	return m
}

// decoded is our metrics of a group as containerd reads them.
func decoded(t *testing.T, g *Group) proto.Message {
	t.Helper()
	s := statsOf(t, g)
	body, err := s.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	var m proto.Message = new(v1.Metrics)
	if _, ok := s.(*metrics.V2); ok {
		m = new(v2.Metrics)
	}
	if err := proto.Unmarshal(body, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// What a live group has used must be what the library reads: while its processes stand, and between two readings of the
// library's that are the same.
func TestStatsAreTheLibrarys(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "same")
		if !m.host.unified {
			err := g.Update(&specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Quota: ptr(int64(20000)), Period: ptr(uint64(100000))},
				Memory: &specs.LinuxMemory{Limit: ptr(int64(512 << 20))},
				// The kernel counts requests where it limits them.
				BlockIO: &specs.LinuxBlockIO{ThrottleWriteBpsDevice: throttleTemp(t)},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		spawn(t, g, "write")
		time.Sleep(300 * time.Millisecond)
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		defer g.Thaw()
		its := libraryStats(t, g)
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			before, ours, after := its(), decoded(t, g), its()
			if proto.Equal(before, after) {
				if diff := cmp.Diff(before, ours, protocmp.Transform()); diff != "" {
					t.Errorf("-library +ours:\n%s", diff)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the library's readings of a frozen group differ: %s", cmp.Diff(before, after, protocmp.Transform()))
			}
		}
	})
}

// throttleTemp limits writing to the disk of temporary files to more than it can do; none where that is no whole disk.
func throttleTemp(t *testing.T) []specs.LinuxThrottleDevice {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(os.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	d := specs.LinuxThrottleDevice{Rate: 1 << 40}
	d.Major, d.Minor = int64(unix.Major(st.Dev)), int64(unix.Minor(st.Dev))
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", d.Major, d.Minor)
	if !exists(sys) || exists(sys+"/partition") {
		return nil
	}
	return []specs.LinuxThrottleDevice{d}
}

// Limits that the library sets on one group and we on another must have the kernel say the same of both.
func TestLimitsAreTheLibrarys(t *testing.T) {
	m := v1Manager(t)
	all := &specs.LinuxResources{
		CPU: &specs.LinuxCPU{Shares: ptr(uint64(333)), Quota: ptr(int64(70000)), Period: ptr(uint64(90000)), Cpus: "0", Mems: "0"},
		Memory: &specs.LinuxMemory{
			Limit: ptr(int64(64 << 20)), Swap: ptr(int64(96 << 20)), Reservation: ptr(int64(32 << 20)),
			Swappiness: ptr(uint64(7)), DisableOOMKiller: ptr(true),
		},
		Pids: &specs.LinuxPids{Limit: ptr(int64(77))},
		BlockIO: &specs.LinuxBlockIO{
			ThrottleReadBpsDevice: throttleTemp(t), ThrottleWriteBpsDevice: throttleTemp(t),
			ThrottleReadIOPSDevice: throttleTemp(t), ThrottleWriteIOPSDevice: throttleTemp(t),
		},
	}
	for name, limits := range map[string]*specs.LinuxResources{
		"none":   {},
		"all":    all,
		"cpu":    {CPU: &specs.LinuxCPU{Shares: ptr(uint64(2)), Quota: ptr(int64(-1))}},
		"memory": {Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1)), DisableOOMKiller: ptr(false)}},
	} {
		t.Run(name, func(t *testing.T) {
			ours, its := create(t, m, "ours"), create(t, m, "librarys")
			if err := ours.Update(limits); err != nil {
				t.Fatal(err)
			}
			for name, c := range library(t, m.host) {
				if u, ok := c.(interface {
					Update(path string, r *specs.LinuxResources) error
				}); ok {
					if err := u.Update(its.path, limits); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
			}
			want, got := says(t, its), says(t, ours)
			if diff := cmp.Diff(want, got); diff != "" || len(want) < 20 {
				t.Errorf("%d files; -library +ours:\n%s", len(want), diff)
			}
		})
	}
}

// says reads all control files of an empty group that can be written.
func says(t *testing.T, g *Group) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, dir := range g.v1 {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode().Perm() != 0o644 || strings.HasPrefix(e.Name(), "memory.kmem.") {
				continue // not a setting, or one that is left out
			}
			text, err := read(dir, e.Name())
			if err != nil {
				text = err.Error()
			}
			all[e.Name()] = text
		}
	}
	return all
}

func TestWeightIsTheLibrarys(t *testing.T) {
	for shares := uint64(1); shares < 1<<18+2; shares++ {
		if got, want := weight(shares), cgroup2.ConvertCPUSharesToCgroupV2Value(shares); got != want {
			t.Fatalf("%d shares: weight %d; want %d", shares, got, want)
		}
	}
}

// BenchmarkStats is one reading of a group with a process in it, encoded, and the library's. On machines of files nothing
// has to be added up for it.
func BenchmarkStats(b *testing.B) {
	m := realManager(b)
	g := create(b, m, "stats")
	spawn(b, g, "sleep")
	for name, g := range map[string]*Group{"real": g, "files-v1": written(b, false, filesV1), "files-v2": written(b, true, filesV2)} {
		b.Run(name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, err := g.Stats()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.MarshalVT(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/library", func(b *testing.B) {
			b.ReportAllocs()
			read := libraryStats(b, g)
			for b.Loop() {
				if _, err := proto.Marshal(read()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
