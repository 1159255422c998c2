package task_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/pod/podtest"
	"github.com/hachi-run/hachi/shim/sandbox"
	shim "github.com/hachi-run/hachi/shim/task"
	"github.com/hachi-run/hachi/shim/taskpb"
)

// service is the task service over a real pod, and what it tells.
type service struct {
	*shim.Router
	podtest.Recorder
	rig *podtest.Rig
	// ended is closed when the service asked for the end of its server.
	ended chan struct{}
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{rig: podtest.New(t), ended: make(chan struct{})}
	s.Router = shim.New(shim.Options{
		Pod: s.rig.Pod, Images: s.rig.Images, Events: &s.Recorder, Sandbox: sandbox.New(), Namespace: "podtest",
		Linux:    func() (shim.Service, error) { return nil, errdefs.ErrUnavailable },
		Shutdown: func() { close(s.ended) },
	})
	t.Cleanup(s.Close)
	return s
}

// rootfs is a root file system as a request names it.
func rootfs(mounts []specs.Mount) []*taskpb.Mount {
	var out []*taskpb.Mount
	for _, m := range mounts {
		out = append(out, &taskpb.Mount{Type: m.Type, Source: m.Source, Target: m.Destination, Options: m.Options})
	}
	return out
}

// create makes a container and returns where its output goes.
func (s *service) create(t *testing.T, id string, args ...string) string {
	t.Helper()
	b, mounts := podtest.Bundle(t, podtest.Spec(id, args...))
	out := "file://" + filepath.Join(b.Path, "out")
	reply, err := s.Create(t.Context(), &taskpb.CreateTaskRequest{Id: id, Bundle: b.Path, Rootfs: rootfs(mounts), Stdout: out})
	if err != nil || reply.Pid == 0 {
		t.Fatalf("create: %v, %v", reply, err)
	}
	return out
}

func (s *service) start(t *testing.T, id, exec string) {
	t.Helper()
	if reply, err := s.Start(t.Context(), &taskpb.ProcessRequest{Id: id, ExecId: exec}); err != nil || reply.Pid == 0 {
		t.Fatalf("start %s %s: %v, %v", id, exec, reply, err)
	}
}

func (s *service) exec(t *testing.T, id, exec string, args ...string) string {
	t.Helper()
	raw, err := json.Marshal(specs.Process{Args: args, Cwd: "/"})
	if err != nil {
		t.Fatal(err)
	}
	out := "file://" + filepath.Join(t.TempDir(), "out")
	if _, err := s.Exec(t.Context(), &taskpb.ExecProcessRequest{Id: id, ExecId: exec, Stdout: out, Spec: &taskpb.Any{Value: raw}}); err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *service) kill(t *testing.T, id, exec string) {
	t.Helper()
	if _, err := s.Kill(t.Context(), &taskpb.KillRequest{Id: id, ExecId: exec, Signal: uint32(syscall.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
}

func (s *service) wait(t *testing.T, id, exec string) uint32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), podtest.Patience)
	defer cancel()
	reply, err := s.Wait(ctx, &taskpb.ProcessRequest{Id: id, ExecId: exec})
	if err != nil {
		t.Fatal(err)
	}
	return reply.ExitStatus
}

func (s *service) delete(t *testing.T, id, exec string) *taskpb.DeleteResponse {
	t.Helper()
	reply, err := s.Delete(t.Context(), &taskpb.ProcessRequest{Id: id, ExecId: exec})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestEventsComeInOrder(t *testing.T) {
	s := newService(t)
	podtest.Await(t, func() string { out := s.create(t, "a", "ready"); s.start(t, "a", ""); return out }(), "ready")
	out := s.exec(t, "a", "e", "/probe.wasm", "ready")
	s.exec(t, "a", "never", "true")
	s.start(t, "a", "e")
	podtest.Await(t, out, "ready")
	for _, err := range []error{
		second(s.Pause(t.Context(), &taskpb.ProcessRequest{Id: "a"})),
		second(s.Resume(t.Context(), &taskpb.ProcessRequest{Id: "a"})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.kill(t, "a", "")
	if code := s.wait(t, "a", ""); code != 137 {
		t.Errorf("exit code %d", code)
	}
	reply := s.delete(t, "a", "")
	// Delete's answer comes after the exit is told, so nothing is waited for here.
	got := s.Lines()
	want := []string{"create a", "start a", "exec-added a e", "exec-added a never", "exec-started a e", "paused a", "resumed a", "exit a e", "exit a", "delete a"}
	if diff := cmp.Diff(want, got); diff != "" || reply.ExitStatus != 137 || reply.Pid == 0 || reply.ExitedAt.GetSeconds() == 0 {
		t.Errorf("%s\nreply %v", diff, reply)
	}
	if _, err := s.Delete(t.Context(), &taskpb.ProcessRequest{Id: "a"}); !errdefs.IsNotFound(err) {
		t.Errorf("second delete: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestExitsOfExecsComeBeforeTheContainers lets many execs die with their container.
func TestExitsOfExecsComeBeforeTheContainers(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	s.start(t, "a", "")
	const execs = 6
	for i := range execs {
		id := string(rune('a' + i))
		s.exec(t, "a", id, "sleep", "100")
		s.start(t, "a", id)
	}
	s.kill(t, "a", "")
	s.delete(t, "a", func() string { s.wait(t, "a", ""); return "" }())
	got := s.Lines()
	if end := got[len(got)-2:]; end[0] != "exit a" || end[1] != "delete a" {
		t.Errorf("the last events are %q", end)
	}
	if exits := slices.DeleteFunc(got, func(l string) bool { return !strings.HasPrefix(l, "exit") }); len(exits) != execs+1 {
		t.Errorf("exits: %q", exits)
	}
}

func TestShortExecsAreToldWhole(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	s.start(t, "a", "")
	for range 20 {
		s.exec(t, "a", "e", "true")
		s.start(t, "a", "e")
		if code := s.wait(t, "a", "e"); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.delete(t, "a", "e")
	}
	got := s.Lines()[2:]
	for i, line := range got {
		if want := []string{"exec-added a e", "exec-started a e", "exit a e"}[i%3]; line != want {
			t.Fatalf("event %d is %q, want %q", i, line, want)
		}
	}
	if len(got) != 60 {
		t.Errorf("%d events", len(got))
	}
}

func TestWaitEndsWhateverBecomesOfAnExec(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	s.start(t, "a", "")
	s.exec(t, "a", "e", "true")
	waited := make(chan error, 1)
	go func() { waited <- second(s.Wait(context.Background(), &taskpb.ProcessRequest{Id: "a", ExecId: "e"})) }()
	select {
	case err := <-waited:
		t.Fatalf("wait before the start: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	state, err := s.State(t.Context(), &taskpb.ProcessRequest{Id: "a", ExecId: "e"})
	if err != nil || state.Status != taskpb.Status_CREATED || state.ExecId != "e" {
		t.Errorf("state %v, %v", state, err)
	}
	s.delete(t, "a", "e")
	if err := <-waited; !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if got := s.Lines(); got[len(got)-1] != "exec-added a e" {
		t.Errorf("an exec that never ran has an end: %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := second(s.Wait(ctx, &taskpb.ProcessRequest{Id: "a"})); err == nil {
		t.Error("a wait that was given up goes on")
	}
}

func TestStateAfterTheEnd(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "exit", "9")
	s.start(t, "a", "")
	s.wait(t, "a", "")
	state, err := s.State(t.Context(), &taskpb.ProcessRequest{Id: "a"})
	if err != nil || state.Status != taskpb.Status_STOPPED || state.ExitStatus != 9 || time.Since(time.Unix(state.ExitedAt.GetSeconds(), 0)) > time.Minute {
		t.Errorf("state %v, %v", state, err)
	}
	pids, err := s.Pids(t.Context(), &taskpb.ProcessRequest{Id: "a"})
	if err != nil || len(pids.Processes) == 0 {
		t.Errorf("pids %v, %v", pids, err)
	}
	if reply, err := s.Stats(t.Context(), &taskpb.ProcessRequest{Id: "a"}); err != nil || reply.Stats == nil {
		t.Errorf("stats %v, %v", reply, err)
	}
	s.delete(t, "a", "")
}

func TestShutdownWaitsForTheLast(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	shutdown := func() bool {
		if err := second(s.Shutdown(t.Context(), &taskpb.ShutdownRequest{Id: "a"})); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.ended:
			return true
		default:
			return false
		}
	}
	if shutdown() {
		t.Fatal("the server ends under a container")
	}
	if x := s.delete(t, "a", ""); x.ExitStatus != 137 {
		t.Errorf("a container that never ran was deleted with %v", x)
	}
	if !shutdown() {
		t.Fatal("the empty server stays")
	}
	b, mounts := podtest.Bundle(t, podtest.Spec("b", "ready"))
	if _, err := s.Create(t.Context(), &taskpb.CreateTaskRequest{Id: "b", Bundle: b.Path, Rootfs: rootfs(mounts)}); !errdefs.IsUnavailable(err) {
		t.Errorf("create after shutdown: %v", err)
	}
}

// TestDeleteOfAFailedCreate is what containerd does when it gave up: Delete, then Shutdown, and then the server must go.
func TestDeleteOfAFailedCreate(t *testing.T) {
	s := newService(t)
	b, mounts := podtest.Bundle(t, podtest.Spec("a", "ready"))
	fifo := filepath.Join(b.Path, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	created := make(chan error, 1)
	go func() { // nobody reads the fifo, so this takes seconds
		created <- second(s.Create(context.Background(), &taskpb.CreateTaskRequest{Id: "a", Bundle: b.Path, Rootfs: rootfs(mounts), Stdout: fifo}))
	}()
	for len(podtest.Cgroups(podtest.Parent+"/a")) == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.Delete(t.Context(), &taskpb.ProcessRequest{Id: "a"}); !errdefs.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
	if err := second(s.Shutdown(t.Context(), &taskpb.ShutdownRequest{Id: "a"})); err != nil {
		t.Error(err)
	}
	select {
	case <-s.ended:
	default:
		t.Error("the server stays for ever")
	}
	if err := <-created; err == nil || len(s.Lines()) != 0 {
		t.Errorf("create: %v, events %q", err, s.Lines())
	}
}

func TestCloseTellsAllExits(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	s.start(t, "a", "")
	s.exec(t, "a", "e", "sleep", "100")
	s.exec(t, "a", "never", "true")
	s.start(t, "a", "e")
	s.Close()
	if got := s.Lines(); !slices.Equal(got[len(got)-2:], []string{"exit a e", "exit a"}) {
		t.Errorf("got %q", got)
	}
}
