package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// The kernel's own account of where a process is must name the group in every tree, from its first moment.
func TestBornInGroup(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "born")
		cmd := exec.Command("cat", "/proc/self/cgroup")
		var out strings.Builder
		cmd.Stdout = &out
		if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, tree := range m.host.v1 {
			if got, want := tree.home(out.String()), filepath.Join(tree.dir, g.path); got != want {
				t.Errorf("child in %s; want %s\n%s", got, want, out.String())
			}
		}
		if m.host.v2 != "" && !strings.Contains("\n"+out.String(), "\n0::"+g.path+"\n") {
			t.Errorf("child not in %s of cgroup2:\n%s", g.path, out.String())
		}
		m.spawner.settle()
		self, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(m.spawnerTID(t)) + "/cgroup")
		if err != nil || strings.Contains(string(self), testParent) {
			t.Errorf("spawner thread is still in the group: %v\n%s", err, self)
		}
	})
}

// spawnerTID asks the spawner who it is.
func (m *Manager) spawnerTID(t *testing.T) int {
	t.Helper()
	var tid int
	err := m.Spawn(nil, func(*exec.Cmd) error { tid = syscall.Gettid(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return tid
}

func TestSpawnerIsOneThreadAndNotTheMainOne(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		first := m.spawnerTID(t)
		for range 20 {
			if tid := m.spawnerTID(t); tid != first || tid == os.Getpid() {
				t.Fatalf("spawner thread %d, then %d; main thread %d", first, tid, os.Getpid())
			}
		}
	})
}

func TestSpawnErrors(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "errors")
		if err := g.Spawn(exec.Command("/does/not/exist"), (*exec.Cmd).Start); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("spawn of nothing: %v; want not found", err)
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := g.Spawn(command("sleep"), (*exec.Cmd).Start); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("spawn in a frozen group: %v; want failed precondition", err)
		}
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		spawn(t, g, "sleep")
		m.Close()
		if err := g.Spawn(command("sleep"), (*exec.Cmd).Start); !errors.Is(err, errClosed) {
			t.Errorf("spawn after close: %v; want %v", err, errClosed)
		}
	})
}

func TestThreadOption(t *testing.T) {
	h, err := readHost()
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	m := newManager(h, Options{Thread: func() error { calls++; return nil }})
	defer m.Close()
	for range 3 {
		if err := m.Spawn(nil, func(*exec.Cmd) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("thread prepared %d times; want once", calls)
	}
	bad := newManager(h, Options{Thread: func() error { return os.ErrPermission }})
	defer bad.Close()
	if err := bad.Spawn(nil, func(*exec.Cmd) error { return nil }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("spawn on a thread that could not be prepared: %v", err)
	}
}

func TestLifeOfAGroup(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		path := testParent + "/life/of/it"
		if _, err := m.Load(path); !errdefs.IsNotFound(err) {
			t.Errorf("load before create: %v; want not found", err)
		}
		g, err := m.Create(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			for _, dir := range g.Dirs() {
				removeDir(filepath.Dir(filepath.Dir(dir)), time.Now())
			}
		}()
		first := spawn(t, g, "sleep")
		second := spawn(t, g, "sleep")
		list, err := g.Pids()
		slices.Sort(list)
		want := []int{first.Process.Pid, second.Process.Pid}
		slices.Sort(want)
		if err != nil || !slices.Equal(list, want) {
			t.Errorf("pids %v, %v; want %v", list, err, want)
		}
		if _, err := m.Create(path, nil); !errdefs.IsAlreadyExists(err) {
			t.Errorf("create over processes: %v; want already exists", err)
		}
		adopted, err := m.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := adopted.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, cmd := range []*exec.Cmd{first, second} {
			if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("child ended with %v; want SIGKILL", err)
			}
		}
		if list, err := g.Pids(); err != nil || len(list) != 0 {
			t.Errorf("pids after kill: %v, %v", list, err)
		}
		if _, err := adopted.Stats(); err != nil {
			t.Errorf("stats after exit: %v", err)
		}
		for range 2 {
			if err := g.Delete(); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		for _, dir := range g.Dirs() {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s after delete: %v", dir, err)
			}
			if _, err := os.Stat(filepath.Dir(dir)); err != nil {
				t.Errorf("parent after delete: %v", err)
			}
		}
		if list, err := g.Pids(); err != nil || len(list) != 0 {
			t.Errorf("pids after delete: %v, %v", list, err)
		}
		if err := g.Kill(); err != nil {
			t.Errorf("kill after delete: %v", err)
		}
	})
}

func TestDeleteNamesWhoIsLeft(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "busy")
		cmd := spawn(t, g, "sleep")
		if err := g.Delete(); err == nil || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
			t.Errorf("delete with process %d inside: %v", cmd.Process.Pid, err)
		}
	})
}

func TestFreezeAndKillFrozen(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "freeze")
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
			t.Fatal(err)
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		frozen := cpuTime(t, cmd.Process.Pid)
		time.Sleep(100 * time.Millisecond)
		if now := cpuTime(t, cmd.Process.Pid); now != frozen {
			t.Errorf("frozen process ran for %d ticks", now-frozen)
		}
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); cpuTime(t, cmd.Process.Pid) == frozen; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("thawed process does not run")
			}
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		adopted, err := m.Load(g.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := adopted.Spawn(command("sleep"), (*exec.Cmd).Start); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("spawn in an adopted frozen group: %v", err)
		}
		if err := adopted.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if adopted.isFrozen() {
			t.Error("group is still frozen after kill")
		}
	})
}

// cpuTime is utime plus stime in clock ticks.
func cpuTime(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	u, _ := strconv.Atoi(f[11])
	s, _ := strconv.Atoi(f[12])
	return u + s
}

func TestPathsStayInside(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		for _, p := range []string{"", "/", "..", "/../..", "a/..", "::", "x:y:z", "a--b.slice:p:n", ".slice:p:n"} {
			if g, err := m.Create(p, nil); !errdefs.IsInvalidArgument(err) {
				t.Errorf("create %q: %v, %v; want invalid argument", p, g, err)
			}
		}
		g, err := m.group("/../../" + testParent + "/x")
		if err != nil || g.path != testParent+"/x" {
			t.Errorf("path with ..: %v, %v", g, err)
		}
	})
}

// Many pods start and end at once on few cores.
func TestManyAtOnce(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 10 {
					g, err := m.Create(testParent+"/many"+strconv.Itoa(i), nil)
					if err != nil {
						t.Error(err)
						return
					}
					cmd := command("sleep")
					if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
						t.Error(err)
					} else if err := g.Kill(); err != nil {
						t.Error(err)
					} else {
						cmd.Wait()
					}
					if err := g.Delete(); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
	})
}

// Pdeathsig names the thread that started a process. The spawner's outlives goroutines and their threads; the end of
// the process takes the child along.
func TestDiesWithTheProcessOnly(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "pdeath")
		var cmd *exec.Cmd
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // this thread ends now
			cmd = spawn(t, g, "sleep")
		}()
		<-done
		time.Sleep(50 * time.Millisecond)
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("child died with the goroutine that asked for it: %v", err)
		}
		m.Close()
		if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("child after close: %v; want SIGKILL", err)
		}
	})
}
