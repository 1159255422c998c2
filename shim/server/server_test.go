package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskAPI "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/shim/pod/podtest"
)

// server is a real hachi-shim process, and a client of it.
type server struct {
	*podtest.Containerd
	socket string
	cmd    *exec.Cmd
	conn   *ttrpc.Client
	stderr bytes.Buffer
	done   chan struct{}
}

// start starts a server as the launcher does, for a pod called id.
func start(t *testing.T, id string) *server {
	t.Helper()
	testenv.NeedRoot(t)
	s := &server{Containerd: podtest.NewContainerd(t), done: make(chan struct{})}
	s.socket = filepath.Join(filepath.Dir(s.Address), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(filepath.Join(testenv.Bin(t), "hachi-shim"), "-namespace", "podtest", "-id", id, "-address", s.Address)
	s.cmd.Dir = t.TempDir()
	s.cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+s.Address+".ttrpc")
	s.cmd.ExtraFiles = []*os.File{file}
	s.cmd.Stderr = &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = s.cmd.Start()
	l.Close()
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.conn = ttrpc.NewClient(conn)
	t.Cleanup(func() {
		s.conn.Close()
		_ = s.cmd.Process.Kill()
		<-s.done
		s.noCgroup(t)
	})
	return s
}

func (s *server) task() taskAPI.TTRPCTaskService { return taskAPI.NewTTRPCTaskClient(s.conn) }

// run makes a container whose probe says that it is ready, and returns its process.
func (s *server) run(t *testing.T, id string) int {
	t.Helper()
	b, mounts := podtest.Bundle(t, podtest.Spec(id, "ready"))
	out := "file://" + filepath.Join(b.Path, "out")
	root := []*types.Mount{{Type: mounts[0].Type, Source: mounts[0].Source, Options: mounts[0].Options}}
	reply, err := s.task().Create(t.Context(), &taskAPI.CreateTaskRequest{ID: id, Bundle: b.Path, Rootfs: root, Stdout: out})
	if err == nil {
		_, err = s.task().Start(t.Context(), &taskAPI.StartRequest{ID: id})
	}
	if err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, out, "ready")
	return int(reply.Pid)
}

// ends waits for the end of the server, and says how long it took.
func (s *server) ends(t *testing.T, within time.Duration) {
	t.Helper()
	begin := time.Now()
	select {
	case <-s.done:
		t.Logf("ended after %v", time.Since(begin).Round(time.Millisecond))
	case <-time.After(within):
		t.Errorf("the server is there %v after its end should be", within)
	}
	if _, err := os.Lstat(s.socket); err == nil {
		t.Error("the server left its socket")
	}
}

func (s *server) noCgroup(t *testing.T) {
	t.Helper()
	for _, dir := range podtest.Cgroups(podtest.Parent) {
		if left, _ := filepath.Glob(dir + "/*/cgroup.procs"); len(left) > 0 {
			t.Errorf("cgroups left: %q", left)
		}
		_ = remove(dir) // the parent of all, which a test that failed may have left full
	}
}

// remove removes a cgroup, whose last process may be a zombie that nobody has reaped yet.
func remove(dir string) error {
	err := os.Remove(dir)
	for deadline := time.Now().Add(podtest.Patience); errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline); err = os.Remove(dir) {
		time.Sleep(time.Millisecond)
	}
	return err
}

// gone waits until a process has ended; who adopted it may be slow to reap it.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there: %s", pid, stat)
		}
	}
}

func TestBothVersionsOfTheTaskServiceAreServed(t *testing.T) {
	s := start(t, "a")
	s.run(t, "a")
	v2 := taskv2.NewTTRPCTaskClient(s.conn)
	state, err := v2.State(t.Context(), &taskv2.StateRequest{ID: "a"})
	if err != nil || state.Status.String() != "RUNNING" || state.Pid == 0 {
		t.Errorf("v2 state: %v, %v", state, err)
	}
	who, err := v2.Connect(t.Context(), &taskv2.ConnectRequest{ID: "a"})
	if err != nil || int(who.ShimPid) != s.cmd.Process.Pid || who.TaskPid != state.Pid {
		t.Errorf("v2 connect: %v, %v; the server is %d", who, err, s.cmd.Process.Pid)
	}
	if _, err := v2.Shutdown(t.Context(), &taskv2.ShutdownRequest{ID: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := v2.Kill(t.Context(), &taskv2.KillRequest{ID: "a", Signal: 9}); err != nil {
		t.Error(err)
	}
	if x, err := s.task().Wait(t.Context(), &taskAPI.WaitRequest{ID: "a"}); err != nil || x.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", x, err)
	}
	if _, err := v2.Delete(t.Context(), &taskv2.DeleteRequest{ID: "a"}); err != nil {
		t.Error(err)
	}
	_, err = s.task().State(t.Context(), &taskAPI.StateRequest{ID: "a"})
	if err = errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("state after delete: %v", err)
	}
	// The answer comes, and then the end.
	if _, err := s.task().Shutdown(t.Context(), &taskAPI.ShutdownRequest{ID: "a"}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := os.Lstat(s.socket); err == nil {
		t.Error("a server that is about to end can still be found")
	}
	s.ends(t, 5*time.Second)
	if want := []string{"create a", "start a", "exit a", "delete a"}; !slices.Equal(s.Lines(), want) {
		t.Errorf("events %q, want %q", s.Lines(), want)
	}
	if s.stderr.Len() > 0 || s.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("%v: %s", s.cmd.ProcessState, &s.stderr)
	}
}

func TestSIGTERMEndsAllAndTellsIt(t *testing.T) {
	s := start(t, "a")
	pid := s.run(t, "a")
	waited := make(chan uint32, 1)
	go func() {
		x, err := s.task().Wait(context.Background(), &taskAPI.WaitRequest{ID: "a"})
		if err != nil {
			t.Error(err)
		}
		waited <- x.GetExitStatus()
	}()
	time.Sleep(20 * time.Millisecond)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-waited; code != 137 {
		t.Errorf("who waited for the container heard %d", code)
	}
	s.ends(t, 5*time.Second)
	gone(t, pid)
	s.noCgroup(t)
	if want := []string{"create a", "start a", "exit a"}; !slices.Equal(s.Lines(), want) {
		t.Errorf("events %q, want %q", s.Lines(), want)
	}
}

func TestContainerdsDeathDoesNotHoldUpTheEnd(t *testing.T) {
	s := start(t, "a")
	pid := s.run(t, "a")
	if err := os.Remove(s.Address + ".ttrpc"); err != nil {
		t.Fatal(err)
	}
	s.Unplug(t)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(t, 8*time.Second)
	gone(t, pid)
	s.noCgroup(t)
	if !strings.Contains(s.stderr.String(), "not delivered") {
		t.Errorf("it does not say what was lost: %q", &s.stderr)
	}
}

func TestAServerThatIsKilledTakesItsEnginesAlong(t *testing.T) {
	s := start(t, "a")
	running, paused := s.run(t, "a"), s.run(t, "b")
	if _, err := s.task().Pause(t.Context(), &taskAPI.PauseRequest{ID: "b"}); err != nil {
		t.Fatal(err)
	}
	dirs := append(podtest.Cgroups(podtest.Parent+"/a"), podtest.Cgroups(podtest.Parent+"/b")...)
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	gone(t, running)
	// Without cgroup2's freezer a frozen process dies when delete thaws it.
	for _, dir := range dirs {
		_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	}
	gone(t, paused)
	for _, dir := range dirs { // delete's part
		if err := remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestUsage(t *testing.T) {
	bin := filepath.Join(testenv.Bin(t), "hachi-shim")
	for _, args := range [][]string{nil, {"-id", "x"}, {"-nonsense"}} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		if code := err.(*exec.ExitError).ExitCode(); code != 64 || !strings.Contains(string(out), "containerd starts it") {
			t.Errorf("%q: %d, %s", args, code, out)
		}
	}
	// Started by hand there is no socket.
	cmd := exec.Command(bin, "-namespace", "n", "-id", "x", "-address", "/none")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "containerd-shim-hachi-v1 starts the server") {
		t.Errorf("without a socket: %v, %s", err, out)
	}
}
