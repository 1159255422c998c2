package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

func ptr[T any](v T) *T { return &v }

// realManager is this machine.
func realManager(t testing.TB) *Manager {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: rerun as root")
	}
	h, err := readHost()
	if err != nil {
		t.Fatal(err)
	}
	m := newManager(h, Options{})
	t.Cleanup(func() { m.Close() })
	return m
}

// v1Manager is this machine with its v1 controllers; the tests of limits need them.
func v1Manager(t testing.TB) *Manager {
	t.Helper()
	m := realManager(t)
	if m.host.unified {
		t.Skip("needs v1 controllers: this machine has them on cgroup2")
	}
	return m
}

func TestLimitsV1(t *testing.T) {
	m := v1Manager(t)
	g, err := m.Create(testParent+"/limits", &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0", Mems: "0"},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Kernel: ptr(int64(1 << 20))}, //nolint:staticcheck // must be ignored
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
		Devices: []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	expect := func(controller, file, want string) {
		t.Helper()
		dir, _ := g.dir(controller)
		if got, err := read(dir, file); err != nil || got != want {
			t.Errorf("%s %q, %v; want %q", file, got, err, want)
		}
	}
	expect("cpu", "cpu.shares", "512")
	expect("cpu", "cpu.cfs_quota_us", "50000")
	expect("cpuset", "cpuset.cpus", "0")
	expect("memory", "memory.limit_in_bytes", "67108864")
	expect("pids", "pids.max", "100")

	err = g.Update(&specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(-1))},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect("cpu", "cpu.shares", "512")
	expect("cpu", "cpu.cfs_quota_us", "-1")
	expect("memory", "memory.limit_in_bytes", "134217728")
	expect("pids", "pids.max", "max")
}

// A group that another pod has made a moment ago has no processors yet.
func TestCpusetBelowOneNotYetFilled(t *testing.T) {
	m := v1Manager(t)
	i := slices.IndexFunc(m.host.v1, func(tree hierarchy) bool { return slices.Contains(tree.controllers, "cpuset") })
	if i < 0 {
		t.Fatal("this machine has no cpuset controller")
	}
	above := filepath.Join(m.host.v1[i].dir, testParent, "unfilled", "above")
	if err := os.MkdirAll(above, 0o755); err != nil {
		t.Fatal(err)
	}
	g, err := m.Create(testParent+"/unfilled/above/group", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, dir := range g.Dirs() {
			removeDir(filepath.Dir(filepath.Dir(dir)), time.Now())
		}
	}()
	dir, _ := g.dir("cpuset")
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		want, err := read(m.host.v1[i].dir, file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(dir, file); err != nil || got != want {
			t.Errorf("%s %q, %v; want %q", file, got, err, want)
		}
	}
}

func TestLimitErrorsUndoCreate(t *testing.T) {
	m := v1Manager(t)
	path := testParent + "/refused"
	_, err := m.Create(path, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}})
	if err == nil || !strings.Contains(err.Error(), "cpuset") {
		t.Errorf("cpu 4000: %v; want an error of the cpuset controller", err)
	}
	if _, err := m.Load(path); !errdefs.IsNotFound(err) {
		t.Errorf("load after refused create: %v; want not found", err)
	}
	bare := newManager(&host{v2: m.host.v2}, Options{})
	defer bare.Close()
	if _, err := bare.Create(path, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))}}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("memory limit without a memory controller: %v; want failed precondition", err)
	}
}

func TestMemoryLimitBelowUsage(t *testing.T) {
	m := v1Manager(t)
	g := create(t, m, "below")
	spawn(t, g, "sleep")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if used, err := g.memoryUsed(); err != nil || used > 1<<20 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("child uses no memory")
		}
	}
	err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 10))}})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("limit of 64 KiB: %v; want failed precondition", err)
	}
}

func TestOOMKill(t *testing.T) {
	m := v1Manager(t)
	g := create(t, m, "oom")
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20))}}); err != nil {
		t.Fatal(err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("oom kills before: %d, %v", n, err)
	}
	cmd := command("hog")
	if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("hog ended with %v; want SIGKILL", err)
	}
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("oom kills: %d, %v; want 1", n, err)
	}
	if n := statsOf(t, g).(*metrics.V1).MemoryOomControl.OomKill; n != 1 {
		t.Errorf("metrics count %d oom kills; want 1", n)
	}
}

// TestSpawnerLeavesAFullGroup: what cannot start for want of memory leaves the thread that tried fit for others.
func TestSpawnerLeavesAFullGroup(t *testing.T) {
	m := v1Manager(t)
	full := create(t, m, "full")
	if err := full.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096))}}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		cmd := exec.Command("true")
		if err := full.Spawn(cmd, (*exec.Cmd).Start); err == nil && cmd.Wait() == nil {
			t.Skip("a process starts with one page: this kernel's memory controller does not count it")
		}
		other := exec.Command("true")
		if err := create(t, m, "other").Spawn(other, (*exec.Cmd).Start); err != nil {
			t.Fatal(err)
		}
		if err := other.Wait(); err != nil {
			t.Errorf("a process of another group: %v", err)
		}
	}
	m.spawner.settle()
	self, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(m.spawnerTID(t)) + "/cgroup")
	if err != nil || strings.Contains(string(self), testParent) {
		t.Errorf("spawner thread is still in the group: %v\n%s", err, self)
	}
}

func statsOf(t *testing.T, g *Group) metrics.Message {
	t.Helper()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStats(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "stats")
		spawn(t, g, "sleep")
		if m.host.unified {
			s := statsOf(t, g).(*metrics.V2)
			if s.Memory.UsageLimit != math.MaxUint64 {
				t.Errorf("unlimited group: limit %d; want MaxUint64", s.Memory.UsageLimit)
			}
			return
		}
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			s := statsOf(t, g).(*metrics.V1)
			if s.Memory.Usage.Usage > 1<<20 && s.Cpu.Usage.Total > 0 && s.Pids.Current > 1 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("metrics of a running process: %+v", s)
			}
		}
	})
}

func TestSettingsV1(t *testing.T) {
	memory := func(limit, swap int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap}}
	}
	device := specs.LinuxWeightDevice{Weight: ptr(uint16(30)), LeafWeight: ptr(uint16(40))}
	device.Major, device.Minor = 8, 16
	for _, tt := range []struct {
		name string
		in   *specs.LinuxResources
		held int64
		want []setting
	}{
		{name: "nothing", in: &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}, Pids: &specs.LinuxPids{}, BlockIO: &specs.LinuxBlockIO{}}},
		{
			name: "what kubelet sends",
			in: &specs.LinuxResources{
				CPU:            &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0-3"},
				Memory:         &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Kernel: ptr(int64(1))}, //nolint:staticcheck // must be ignored
				Pids:           &specs.LinuxPids{Limit: ptr(int64(0))},
				HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
			},
			want: []setting{
				{file: "cpuset.cpus", value: "0-3"}, {file: "memory.limit_in_bytes", value: "67108864"},
				{file: "cpu.shares", value: "1024"}, {file: "cpu.cfs_period_us", value: "100000"}, {file: "cpu.cfs_quota_us", value: "50000"},
				{file: "pids.max", value: "max"}, {file: "hugetlb.2MB.limit_in_bytes", value: "0", optional: true},
			},
		},
		{
			name: "lower memory", in: memory(1, 2), held: 2,
			want: []setting{{file: "memory.limit_in_bytes", value: "1"}, {file: swapLimitFile, value: "2"}},
		},
		{
			name: "higher memory", in: memory(3, 3), held: 2,
			want: []setting{{file: swapLimitFile, value: "3"}, {file: "memory.limit_in_bytes", value: "3"}},
		},
		{
			name: "memory without a limit", in: memory(-1, -1), held: 2,
			want: []setting{{file: swapLimitFile, value: "-1"}, {file: "memory.limit_in_bytes", value: "-1"}},
		},
		{
			name: "disks", in: &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10)), LeafWeight: ptr(uint16(20)), WeightDevice: []specs.LinuxWeightDevice{device}}},
			want: []setting{
				{file: "blkio.weight", value: "10"}, {file: "blkio.leaf_weight", value: "20"},
				{file: "blkio.weight_device", value: "8:16 30"}, {file: "blkio.leaf_weight_device", value: "8:16 40"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, settingsV1(tt.in, tt.held), cmp.AllowUnexported(setting{})); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// A limit in a file that the kernel does not have says so.
func TestLimitWithoutAFile(t *testing.T) {
	m := v1Manager(t)
	g := create(t, m, "nofile")
	err := g.Update(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(100))}})
	if err == nil || !strings.Contains(err.Error(), "set blkio limits") || !strings.Contains(err.Error(), "does not account") {
		t.Errorf("CFQ's weight: %v; want an error of the blkio controller", err)
	}
}

// No kernel here has controllers on cgroup2; what would be written is compared instead.
func TestSettingsV2(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   specs.LinuxResources
		want []setting
		bad  bool
	}{
		{name: "nothing"},
		{
			name: "what kubelet sends",
			in: specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
				Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
				Pids:   &specs.LinuxPids{Limit: ptr(int64(0))},
				Unified: map[string]string{
					"memory.oom.group": "1", "memory.min": "0",
				},
				HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
			},
			want: []setting{
				{file: "cpu.weight", value: "100"}, {file: "cpu.max", value: "50000 100000"},
				{file: "memory.swap.max", value: "0", optional: true}, {file: "memory.max", value: "67108864"},
				{file: "pids.max", value: "max"}, {file: "hugetlb.2MB.max", value: "0", optional: true},
				{file: "memory.min", value: "0"}, {file: "memory.oom.group", value: "1"},
			},
		},
		{
			name: "no limits",
			in:   specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}, Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1))}},
			want: []setting{
				{file: "cpu.max", value: "max"}, {file: "memory.swap.max", value: "max", optional: true}, {file: "memory.max", value: "max"},
			},
		},
		{name: "swap below memory", in: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(2)), Swap: ptr(int64(1))}}, bad: true},
		{name: "file of another group", in: specs.LinuxResources{Unified: map[string]string{"../memory.max": "max"}}, bad: true},
		{name: "core file", in: specs.LinuxResources{Unified: map[string]string{"cgroup.procs": "1"}}, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := settingsV2(&tt.in)
			if tt.bad != (err != nil) {
				t.Fatalf("error %v; want one: %v", err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(setting{})); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// hugetlb is the one controller that may be on this machine's cgroup2 tree.
func TestControllersAreEnabledDownToTheGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: rerun as root")
	}
	h, ok := testHosts()["v2 only"]
	if !ok {
		h = testHosts()["real"]
	}
	if h.v2 == "" {
		t.Skip("needs a cgroup2 tree: none is mounted")
	}
	m := newManager(h, Options{})
	defer m.Close()
	g := create(t, m, "deep/er")
	slice := fmt.Sprintf("hachitest%d.slice", os.Getpid())
	scoped, err := m.Create(slice+":hachi:c", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		removeDir(filepath.Dir(g.v2), time.Now())
		removeDir(filepath.Join(h.v2, testParent), time.Now())
		removeDir(filepath.Join(h.v2, slice), time.Now())
	})
	available, err := read(h.v2, "cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(g.v2, "cgroup.controllers")
	for _, c := range strings.Fields(available) {
		if !strings.Contains(" "+got+" ", " "+c+" ") && strings.Contains(strings.Join(delegated, " "), c) {
			t.Errorf("controllers of the group %q, %v; want %s", got, err, c)
		}
	}
	if strings.Contains(available, "hugetlb") {
		err := g.Update(&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}})
		if v, rerr := read(g.v2, "hugetlb.2MB.max"); err != nil || v != "4194304" {
			t.Errorf("hugetlb limit %q, %v, %v", v, err, rerr)
		}
		// What systemd does to a slice when its properties change.
		if err := write(filepath.Join(h.v2, slice), "cgroup.subtree_control", "-hugetlb"); !errors.Is(err, unix.EBUSY) {
			t.Errorf("taking a controller from the slice: %v; want EBUSY", err)
		}
	}
	cmd := spawn(t, scoped, "sleep")
	if list, err := scoped.Pids(); err != nil || !slices.Equal(list, []int{cmd.Process.Pid}) {
		t.Errorf("processes of the scope: %v, %v; want %d", list, err, cmd.Process.Pid)
	}
	if _, err := m.Create(slice+":hachi:c", nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("create over processes of a scope: %v; want already exists", err)
	}
	if err := errors.Join(scoped.Freeze(), scoped.Kill(), cmd.Wait()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("freeze and kill: %v; want only the child's end", err)
	}
	if err := scoped.Delete(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(available, "memory") {
		err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))}})
		if !errdefs.IsFailedPrecondition(err) {
			t.Errorf("memory limit without controller: %v; want failed precondition", err)
		}
	}
}
