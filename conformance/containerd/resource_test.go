package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/cgroups/v3"
	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
)

func pids(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	got, err := c.task.Pids(w.ctx)
	if err != nil || len(got) == 0 {
		t.Fatalf("want at least one process, got %v, %v", got, err)
	}
	var all []int
	for _, p := range got {
		all = append(all, int(p.Pid))
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.Pid)); err != nil {
			t.Errorf("containerd was told of a process that is not there: %v", err)
		}
	}
	if !slices.Contains(all, int(c.task.Pid())) {
		t.Errorf("the task's own process %d is not among %v", c.task.Pid(), all)
	}
	cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.task.Pid()))
	if err != nil || !strings.Contains(string(cgroup), w.d.Mark()+"/"+c.id) {
		t.Errorf("the process is not in the container's cgroup /%s/%s: %v\n%s", w.d.Mark(), c.id, err, cgroup)
	}
}

// usage reads CPU nanoseconds and memory bytes out of whichever metrics this host's mode calls for.
func (c *container) usage(t *testing.T) (cpu, memory uint64) {
	t.Helper()
	m, err := c.task.Metrics(c.w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	any, err := typeurl.UnmarshalAny(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	v2 := cgroups.Mode() == cgroups.Unified
	switch s := any.(type) {
	case *cgroup1.Metrics:
		if v2 {
			t.Error("v1 metrics on a host with cgroup v2")
		}
		return s.GetCPU().GetUsage().GetTotal(), s.GetMemory().GetUsage().GetUsage()
	case *cgroup2.Metrics:
		if !v2 {
			t.Error("v2 metrics on a host with cgroup v1")
		}
		return s.GetCPU().GetUsageUsec() * 1000, s.GetMemory().GetUsage()
	default:
		t.Errorf("metrics of type %T", any)
		return 0, 0
	}
}

func metrics(t *testing.T, w *world) {
	c := w.start(t, "spin")
	c.stdout.await(t, "ready")
	eventually(t, "100 ms of CPU time", func() error {
		cpu, memory := c.usage(t)
		if cpu < 100e6 || memory < 4096 {
			return fmt.Errorf("%d ns of CPU, %d bytes", cpu, memory)
		}
		return nil
	})
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
	// CRI asks once more after the exit, for the reason of a 137.
	if _, err := c.task.Metrics(w.ctx); w.hachi() && err != nil {
		t.Errorf("metrics after exit: %v", err)
	}
}

func update(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	limit := int64(96 << 20)
	if err := c.task.Update(w.ctx, client.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/%s/%s/memory.limit_in_bytes", w.d.Mark(), c.id))
	if cgroups.Mode() == cgroups.Unified {
		files, _ = filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/%s/%s/memory.max", w.d.Mark(), c.id))
	}
	if len(files) != 1 {
		t.Fatalf("want one memory cgroup, found %v", files)
	}
	if raw, err := os.ReadFile(files[0]); err != nil || strings.TrimSpace(string(raw)) != fmt.Sprint(limit) {
		t.Errorf("want %d in %s, got %s, %v", limit, files[0], raw, err)
	}
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
}

func outOfMemory(t *testing.T, w *world) {
	until := w.watch(t)
	limit := oci.WithMemoryLimit(64 << 20)
	c := w.startWith(t, setup{args: []string{"eat", "300"}, spec: []oci.SpecOpts{limit}})
	if code := c.wait(t); code != 137 {
		t.Errorf("want exit code 137, got %d (stdout %q, stderr %.300q)", code, c.stdout.String(), c.stderr.String())
	}
	c.remove(t)
	if got := until("/tasks/delete"); !slices.Contains(got, "oom") {
		t.Errorf("no out-of-memory event among %q", got)
	}
}

func mounts(t *testing.T, w *world) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "rw", "in"), "from host")
	mustWrite(t, filepath.Join(dir, "ro", "in"), "from host")
	single := mustWrite(t, filepath.Join(dir, "single"), "one file")
	with := []oci.SpecOpts{oci.WithMounts([]specs.Mount{
		bind(filepath.Join(dir, "rw"), "/rw", "rw"), bind(filepath.Join(dir, "ro"), "/ro", "ro"), bind(single, "/etc/single", "ro"),
	})}
	for _, file := range []string{"/rw/in", "/ro/in"} {
		if code, c := w.runWith(t, setup{args: []string{"read", file}, spec: with}); code != 0 || c.stdout.String() != "from host" {
			t.Errorf("read %s: code %d, %q, stderr %q", file, code, c.stdout.String(), c.stderr.String())
		}
	}
	if code, c := w.runWith(t, setup{args: []string{"read", "/etc/single"}, spec: with}); code != 0 || c.stdout.String() != "one file" {
		t.Errorf("read a mounted file: code %d, %q, stderr %q", code, c.stdout.String(), c.stderr.String())
	}
	code, c := w.runWith(t, setup{args: []string{"write", "/rw/out", "from guest"}, spec: with})
	if raw, err := os.ReadFile(filepath.Join(dir, "rw", "out")); code != 0 || string(raw) != "from guest" {
		t.Errorf("write to a volume: code %d, %q, %v, stderr %q", code, raw, err, c.stderr.String())
	}
	for _, file := range []string{"/ro/out", "/ro/in", "/etc/single"} {
		if code, _ := w.runWith(t, setup{args: []string{"write", file, "no"}, spec: with}); code == 0 {
			t.Errorf("%s is mounted read-only and was written", file)
		}
	}
	if raw, _ := os.ReadFile(single); string(raw) != "one file" {
		t.Errorf("the read-only file now holds %q", raw)
	}
}

func user(t *testing.T, w *world) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	spec := []oci.SpecOpts{oci.WithMounts([]specs.Mount{bind(dir, "/data", "rw")}), oci.WithUIDGID(1234, 2345)}
	code, c := w.runWith(t, setup{args: []string{"write", "/data/mine", "x"}, spec: spec})
	info, err := os.Stat(filepath.Join(dir, "mine"))
	if code != 0 || err != nil {
		t.Fatalf("code %d, %v, stderr %q", code, err, c.stderr.String())
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 2345 {
		t.Errorf("the container's user is 1234:2345 and its file belongs to %d:%d", st.Uid, st.Gid)
	}
	if err := os.Mkdir(filepath.Join(dir, "locked"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _ := w.runWith(t, setup{args: []string{"write", "/data/locked/x", "x"}, spec: spec}); code == 0 {
		t.Error("user 1234 wrote into a directory of root's")
	}
}
