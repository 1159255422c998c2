package pod_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/pod/podtest"
	"github.com/hachi-run/hachi/shim/stdio"
)

func create(t *testing.T, r *podtest.Rig, id string, args ...string) (*pod.Container, pod.ContainerOptions) {
	t.Helper()
	o := r.Options(t, id, podtest.Spec(id, args...))
	c, err := r.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c, o
}

func run(t *testing.T, r *podtest.Rig, id string, args ...string) *pod.Container {
	t.Helper()
	c, o := create(t, r, id, args...)
	if _, err := c.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, o.IO.Stdout, "ready")
	return c
}

func exit(t *testing.T, p *pod.Process) pod.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), podtest.Patience)
	defer cancel()
	x, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func exec(t *testing.T, c *pod.Container, id string, args ...string) (*pod.Process, stdio.Config) {
	t.Helper()
	io := stdio.Config{Stdout: "file://" + filepath.Join(t.TempDir(), "out")}
	p, err := c.Exec(id, &specs.Process{Args: args, Cwd: "/"}, io)
	if err != nil {
		t.Fatal(err)
	}
	return p, io
}

func want(t *testing.T, what string, err error, is func(error) bool) {
	t.Helper()
	if !is(err) {
		t.Errorf("%s: got %v", what, err)
	}
}

func ok(err error) bool { return err == nil }

// calls makes the calls that do not move a container out of state, and holds them against what must be.
func calls(t *testing.T, c *pod.Container, state pod.State, expected map[string]func(error) bool) {
	t.Helper()
	if got := c.Init.State(); got != state {
		t.Fatalf("is %s, want %s", got, state)
	}
	if pids := c.Pids(); len(pids) == 0 || pids[0] == 0 {
		t.Errorf("%s: pids %v", state, pids)
	}
	limit, tiny := int64(256<<20), int64(1)
	memory := func(n *int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n}}
	}
	all := map[string]func() error{
		"start":           func() error { _, err := c.Start(t.Context(), ""); return err },
		"pause":           c.Pause,
		"resume":          c.Resume,
		"signal 0":        func() error { return c.Kill("", 0, false) },
		"signal 65":       func() error { return c.Kill("", 65, false) },
		"kill an unknown": func() error { return c.Kill("x", syscall.SIGKILL, false) },
		"resize":          func() error { return c.Init.Resize(1, 1) },
		"stats":           func() error { _, err := c.Stats(); return err },
		"update":          func() error { return c.Update(memory(&limit)) },
		"update to 1":     func() error { return c.Update(memory(&tiny)) },
		"exec": func() error {
			_, err := c.Exec("e-"+state.String(), &specs.Process{Args: []string{"true"}}, stdio.Config{})
			return err
		},
	}
	for name, is := range expected {
		want(t, name+" when "+state.String(), all[name](), is)
	}
	for name, is := range map[string]func(error) bool{
		"signal 65": errdefs.IsInvalidArgument, "kill an unknown": errdefs.IsNotFound, "resize": errdefs.IsFailedPrecondition,
		"stats": ok, "update": ok, "update to 1": errdefs.IsInvalidArgument,
	} {
		want(t, name+" when "+state.String(), all[name](), is)
	}
}

func TestEveryCallInEveryState(t *testing.T) {
	r := podtest.New(t)
	refused, gone := errdefs.IsFailedPrecondition, errdefs.IsNotFound
	c, _ := create(t, r, "a", "ready")
	calls(t, c, pod.Created, map[string]func(error) bool{"pause": refused, "resume": refused, "signal 0": ok, "exec": ok})
	if _, err := c.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	calls(t, c, pod.Running, map[string]func(error) bool{"start": refused, "resume": refused, "signal 0": ok, "exec": ok})
	want(t, "delete when running", r.Delete(t.Context(), "a"), refused)
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	calls(t, c, pod.Paused, map[string]func(error) bool{"start": refused, "pause": refused, "signal 0": ok, "exec": ok})
	want(t, "delete when paused", r.Delete(t.Context(), "a"), refused)
	if _, err := c.Start(t.Context(), "e-paused"); !refused(err) {
		t.Errorf("start an exec in a frozen container: %v", err)
	}
	if err := c.Kill("", syscall.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	if x := exit(t, c.Init); x.Code != 137 || x.OOM {
		t.Errorf("killed while paused: %+v", x)
	}
	calls(t, c, pod.Stopped, map[string]func(error) bool{"start": refused, "pause": refused, "resume": refused, "signal 0": gone, "exec": refused})
	if err := r.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	want(t, "second delete", r.Delete(t.Context(), "a"), gone)
	want(t, "signal after delete", c.Kill("", syscall.SIGKILL, false), gone)
	if _, err := c.Stats(); !gone(err) {
		t.Errorf("stats after delete: %v", err)
	}
	if !r.Empty() {
		t.Error("the pod is not empty")
	}
}

func TestSignalsEndAGuestBeforeAndAfterItsStart(t *testing.T) {
	r := podtest.New(t)
	for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGKILL} {
		for _, started := range []bool{false, true} {
			id := fmt.Sprintf("s%d%v", i, started)
			c, o := create(t, r, id, "ready")
			if started {
				if _, err := c.Start(t.Context(), ""); err != nil {
					t.Fatal(err)
				}
				podtest.Await(t, o.IO.Stdout, "ready")
			}
			if err := c.Kill("", sig, false); err != nil {
				t.Fatal(err)
			}
			if x := exit(t, c.Init); x.Code != 128+uint32(sig) || x.OOM {
				t.Errorf("%v, started %v: %+v", sig, started, x)
			}
			if err := r.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTheEndIsRecordedForACrash(t *testing.T) {
	r := podtest.New(t)
	c, o := create(t, r, "a", "exit", "7")
	if _, err := c.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	x := exit(t, c.Init)
	got := recorded(t, o)
	if x.Code != 7 || got.Exit == nil || got.Exit.Status != 7 || got.Exit.At != x.At.UnixNano() || len(got.Cgroups) == 0 {
		t.Errorf("exit %+v; record %+v", x, got)
	}
	if err := r.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(o.Bundle.Path, "hachi.json*")); len(left) > 0 {
		t.Errorf("delete left %q", left)
	}
}

// recorded is what the bundle says that a crash would leave.
func recorded(t *testing.T, o pod.ContainerOptions) (l bundle.Leftovers) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(o.Bundle.Path, "hachi.json"))
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestACreateThatNobodyWantsLeavesNothing(t *testing.T) {
	r := podtest.New(t)
	fifo := filepath.Join(t.TempDir(), "out")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(cancel func()) error{
		"cancelled": func(cancel func()) error { cancel(); return nil },
		"deleted":   func(func()) error { return r.Delete(t.Context(), "a") },
		"twice": func(cancel func()) error {
			_, err := r.Create(t.Context(), r.Options(t, "a", podtest.Spec("a", "ready")))
			cancel()
			return err
		},
	} {
		o := r.Options(t, "a", podtest.Spec("a", "ready"))
		o.IO.Stdout = fifo // nobody reads it, so Create waits
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := r.Create(ctx, o)
			failed <- err
		}()
		for len(podtest.Cgroups(podtest.Parent+"/a")) == 0 {
			time.Sleep(time.Millisecond)
		}
		if _, err := r.Container("a"); !errdefs.IsNotFound(err) {
			t.Errorf("%s: found before it was there: %v", name, err)
		}
		if r.Empty() {
			t.Errorf("%s: the pod is empty while a container is being created", name)
		}
		begin := time.Now()
		switch err := end(cancel); {
		case name == "deleted" && !errdefs.IsNotFound(err), name == "twice" && !errdefs.IsAlreadyExists(err):
			t.Errorf("%s: %v", name, err)
		case name == "deleted" && !r.Empty():
			t.Error("something is left after delete")
		}
		if err := <-failed; err == nil || time.Since(begin) > 2*time.Second {
			t.Errorf("%s: create gave %v after %v", name, err, time.Since(begin))
		}
		cancel()
		if left := podtest.Cgroups(podtest.Parent + "/a"); len(left) > 0 || !r.Empty() {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

func TestCloseEndsWhatRunsAndWhatIsBeingCreated(t *testing.T) {
	r := podtest.New(t)
	c := run(t, r, "a", "spin")
	unstarted, _ := exec(t, c, "e", "true")
	o := r.Options(t, "b", podtest.Spec("b", "ready"))
	late := make(chan error, 1)
	go func() {
		_, err := r.Create(t.Context(), o)
		late <- err
	}()
	r.Close()
	select {
	case <-c.Init.Done():
	default:
		t.Error("a container runs on after Close")
	}
	if _, err := unstarted.Wait(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("wait for an exec that never ran: %v", err)
	}
	if err := <-late; err == nil && !r.Empty() || err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a create beside Close: %v, empty %v", err, r.Empty())
	}
	if _, err := r.Create(t.Context(), o); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("create after Close: %v", err)
	}
}

// TestEverybodyAtOnce calls everything from everywhere, for the race detector and for what is left at the end.
func TestEverybodyAtOnce(t *testing.T) {
	r := podtest.New(t)
	for i := range 3 {
		id := fmt.Sprintf("c%d", i)
		c := run(t, r, id, "ready")
		var all sync.WaitGroup
		for j := range 4 {
			e := fmt.Sprintf("e%d", j)
			p, _ := exec(t, c, e, "sleep", "60")
			all.Go(func() {
				_, _ = c.Start(t.Context(), e)
				_ = c.Kill(e, syscall.SIGKILL, false)
			})
			all.Go(func() { _, _ = c.Start(t.Context(), e) })
			all.Go(func() { _, _ = c.DeleteExec(e); _ = p.State() })
		}
		all.Go(func() { _ = c.Pause(); c.Pids(); _ = c.Resume() })
		all.Go(func() { _, _ = c.Stats(); _ = c.Kill("", syscall.SIGCONT, true) })
		all.Go(func() {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			_ = c.Kill("", syscall.SIGKILL, true)
			exit(t, c.Init)
			_ = c.Resume()
		})
		var deleted sync.WaitGroup
		wins := make(chan struct{}, 3)
		for range 3 {
			deleted.Go(func() {
				<-c.Init.Done()
				if r.Delete(t.Context(), id) == nil {
					wins <- struct{}{}
				}
			})
		}
		all.Wait()
		deleted.Wait()
		if len(wins) != 1 || !r.Empty() {
			t.Errorf("%d deletes won, pod empty: %v", len(wins), r.Empty())
		}
	}
}
