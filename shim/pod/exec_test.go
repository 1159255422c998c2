package pod_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/pod/podtest"
	"github.com/hachi-run/hachi/shim/stdio"
)

func TestExecsLive(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "ready")
	p, io := exec(t, c, "e", "/probe.wasm", "ready")
	want(t, "a second exec of the same id", second(c), errdefs.IsAlreadyExists)
	want(t, "kill before start", c.Kill("e", syscall.SIGKILL, false), errdefs.IsFailedPrecondition)
	if p.Pid() != 0 || p.State() != pod.Created {
		t.Errorf("not started: pid %d, %s", p.Pid(), p.State())
	}
	if _, err := c.Start(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, io.Stdout, "ready")
	if _, err := c.Start(t.Context(), "e"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second start: %v", err)
	}
	if _, err := c.DeleteExec("e"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete while it runs: %v", err)
	}
	if err := c.Kill("e", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if x := exit(t, p); x.Code != 143 || p.State() != pod.Stopped {
		t.Errorf("got %+v, %s", x, p.State())
	}
	want(t, "kill after exit", c.Kill("e", syscall.SIGKILL, false), errdefs.IsNotFound)
	if _, err := c.DeleteExec("e"); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteExec("e"); !errdefs.IsNotFound(err) {
		t.Errorf("second delete: %v", err)
	}
	if c.Init.State() != pod.Running {
		t.Errorf("the container is %s", c.Init.State())
	}
	for _, args := range [][]string{{"/bin/bash"}, {"nosuch.wasm"}} {
		if _, err := c.Exec("x", &specs.Process{Args: args}, stdio.Config{}); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "toolbox") {
			t.Errorf("exec %q: %v", args, err)
		}
	}
	if _, err := c.Exec("x", &specs.Process{}, stdio.Config{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("exec of nothing: %v", err)
	}
}

func TestTheUserThatIsNoneStaysOutside(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "ready")
	const none = 1<<32 - 1
	for _, u := range []specs.User{{UID: none}, {GID: none}, {AdditionalGids: []uint32{0, none}}} {
		p, err := c.Exec("u", &specs.Process{Args: []string{"id"}, User: u}, stdio.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Start(t.Context(), "u"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("exec as %+v: %v; it is %s", u, err, p.State())
		}
		if _, err := c.DeleteExec("u"); err != nil {
			t.Error(err)
		}
	}
}

func second(c *pod.Container) error {
	_, err := c.Exec("e", &specs.Process{Args: []string{"true"}}, stdio.Config{})
	return err
}

func TestAnExecThatCannotStartCanBeDeleted(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "ready")
	p, err := c.Exec("e", &specs.Process{Args: []string{"true"}, Cwd: "/"}, stdio.Config{Stdout: "gopher://x"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Start(t.Context(), "e"); err == nil || p.State() != pod.Created {
			t.Errorf("start into nowhere: %v, %s", err, p.State())
		}
	}
	if _, err := c.DeleteExec("e"); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("wait for it: %v", err)
	}
}

// TestAnExecDoesNotOutliveItsContainer starts execs in the moment of a container's end: its exit must not wait
// for them, and none may be left.
func TestAnExecDoesNotOutliveItsContainer(t *testing.T) {
	r := podtest.New(t)
	for i := range 12 {
		c := run(t, r, "a", "ready")
		p, _ := exec(t, c, "e", "/probe.wasm", "ready")
		started := make(chan error, 1)
		go func() {
			_, err := c.Start(t.Context(), "e")
			started <- err
		}()
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		if err := c.Kill("", syscall.SIGKILL, false); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		exit(t, c.Init)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("round %d: the exit took %v", i, took)
		}
		if err := <-started; err == nil {
			if x := exit(t, p); x.Code != 137 || x.OOM {
				t.Errorf("round %d: exec ended with %+v", i, x)
			}
		}
		if pids := c.Pids(); len(pids) != 1 || syscall.Kill(pids[0], 0) == nil {
			t.Errorf("round %d: processes %v are left", i, pids)
		}
		if err := r.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKillOfAPausedExecLeavesTheOthersFrozen(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "spin")
	p, io := exec(t, c, "e", "/probe.wasm", "ready")
	if _, err := c.Start(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, io.Stdout, "ready")
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill("e", syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	before := cpu(t, c.Init.Pid())
	time.Sleep(100 * time.Millisecond)
	if after := cpu(t, c.Init.Pid()); after != before || c.Init.State() != pod.Paused {
		t.Errorf("a paused guest went on, from %s to %s ticks; it is %s", before, after, c.Init.State())
	}
	if err := c.Resume(); err != nil {
		t.Fatal(err)
	}
	if x := exit(t, p); x.Code != 137 {
		t.Errorf("the exec ended with %+v", x)
	}
}

// cpu is the user time of a process in ticks; proc(5), /proc/pid/stat field 14.
func cpu(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')'):]))[12]
}

func TestInputThatEndsBeforeTheExecStarts(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "ready")
	fifo := t.TempDir() + "/in"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := "file://" + t.TempDir() + "/out"
	p, err := c.Exec("e", &specs.Process{Args: []string{"/probe.wasm", "cat"}, Cwd: "/"}, stdio.Config{Stdin: fifo, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	p.CloseInput()
	if _, err := client.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, out, "last words")
	client.Close()
	if x := exit(t, p); x.Code != 0 {
		t.Errorf("got %+v", x)
	}
}

func TestMemoryThatRanOutIsBlamedOnWhoTookIt(t *testing.T) {
	r := podtest.New(t)
	spec := podtest.Spec("a", "ready")
	limit := int64(96 << 20)
	spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	o := r.Options(t, "a", spec)
	c, err := r.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, o.IO.Stdout, "ready")
	p, _ := exec(t, c, "e", "/probe.wasm", "eat", "300")
	if _, err := c.Start(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	if x := exit(t, p); x.Code != 137 || !x.OOM {
		t.Errorf("the exec that ate it ended with %+v", x)
	}
	if err := c.Kill("", syscall.SIGKILL, false); err == nil {
		if x := exit(t, c.Init); x.OOM {
			t.Errorf("a killed container is said to have died of memory: %+v", x)
		}
	}
}
