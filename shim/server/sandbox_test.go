package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	sandboxAPI "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskAPI "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// netns makes a network namespace and returns a path of it, for as long as the test runs.
func netns(t *testing.T) string {
	t.Helper()
	made := make(chan *os.File)
	go offMain(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		made <- f
	})
	f := <-made
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// offMain calls f on a thread that ends afterwards, which the main one does not.
func offMain(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

// namespaces maps each thread of a process to what one of its namespaces is.
func namespaces(t *testing.T, pid int, kind string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if link, err := os.Readlink(filepath.Join(task, "ns", kind)); err == nil {
			all[filepath.Base(task)] = link
		}
	}
	return all
}

func options(t *testing.T, c *cri.PodSandboxConfig) *anypb.Any {
	t.Helper()
	raw, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "runtime.v1.PodSandboxConfig", Value: raw}
}

func TestSandboxLivesAsContainerdAsks(t *testing.T) {
	s := start(t, "box")
	box := sandboxAPI.NewTTRPCSandboxClient(s.conn)
	ctx, pid := t.Context(), s.cmd.Process.Pid
	ns := netns(t)
	_, err := box.SandboxStatus(ctx, &sandboxAPI.SandboxStatusRequest{SandboxID: "box"})
	if err := errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("status before create: %v", err)
	}
	config := options(t, &cri.PodSandboxConfig{Hostname: "honeycomb", Linux: &cri.LinuxPodSandboxConfig{
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}}})
	if _, err := box.CreateSandbox(ctx, &sandboxAPI.CreateSandboxRequest{SandboxID: "box", NetnsPath: ns, Options: config}); err != nil {
		t.Fatal(err)
	}
	inode, err := os.Readlink(ns)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{"net": inode, "uts": "", "ipc": ""} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		threads := namespaces(t, pid, kind)
		first := threads[fmt.Sprint(pid)]
		for thread, got := range threads {
			if got != first || got == ours || want != "" && got != want {
				t.Errorf("thread %s of %d is in %s; the first in %s, we in %s, the pod in %s", thread, pid, got, first, ours, want)
			}
		}
	}
	if name := inside(t, pid, "/proc/sys/kernel/hostname"); name != "honeycomb\n" {
		t.Errorf("host name %q", name)
	}
	if port := inside(t, pid, "/proc/sys/net/ipv4/ip_unprivileged_port_start"); port != "80\n" {
		t.Errorf("sysctl %q", port)
	}
	_, err = box.CreateSandbox(ctx, &sandboxAPI.CreateSandboxRequest{SandboxID: "box", NetnsPath: ns})
	if err = errgrpc.ToNative(err); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}

	reply, err := box.StartSandbox(ctx, &sandboxAPI.StartSandboxRequest{SandboxID: "box"})
	if err != nil || int(reply.Pid) != pid || reply.Spec == nil {
		t.Fatalf("start: %v, %v", reply, err)
	}
	status, err := box.SandboxStatus(ctx, &sandboxAPI.SandboxStatusRequest{SandboxID: "box"})
	if err != nil || status.State != "SANDBOX_READY" || int(status.Pid) != pid {
		t.Errorf("status: %v, %v", status, err)
	}
	// containerd asks these of the sandbox's id after its own restart.
	who, err := s.task().Connect(ctx, &taskAPI.ConnectRequest{ID: "box"})
	if err != nil || int(who.ShimPid) != pid || int(who.TaskPid) != pid {
		t.Errorf("connect: %v, %v", who, err)
	}
	pids, err := s.task().Pids(ctx, &taskAPI.PidsRequest{ID: "box"})
	if err != nil || len(pids.Processes) != 1 || int(pids.Processes[0].Pid) != pid {
		t.Errorf("pids: %v, %v", pids, err)
	}
	engine := s.run(t, "web")
	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", engine)); err != nil || got != inode {
		t.Errorf("the engine is in %s, %v; the pod in %s", got, err, inode)
	}
	// Nothing of this may end a pod that lives.
	if _, err := s.task().Shutdown(ctx, &taskAPI.ShutdownRequest{ID: "web"}); err != nil {
		t.Error(err)
	}
	_, err = box.ShutdownSandbox(ctx, &sandboxAPI.ShutdownSandboxRequest{SandboxID: "other"})
	if err = errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("shutdown of another sandbox: %v", err)
	}
	time.Sleep(60 * time.Millisecond) // longer than the server waits before it ends
	if _, err := box.PingSandbox(ctx, &sandboxAPI.PingRequest{SandboxID: "box"}); err != nil {
		t.Fatalf("the server has ended: %v", err)
	}

	waited := make(chan error, 1)
	go func() {
		_, err := box.WaitSandbox(context.Background(), &sandboxAPI.WaitSandboxRequest{SandboxID: "box"})
		waited <- err
	}()
	for range 2 {
		if _, err := box.StopSandbox(ctx, &sandboxAPI.StopSandboxRequest{SandboxID: "box"}); err != nil {
			t.Error(err)
		}
	}
	if err := <-waited; err != nil {
		t.Errorf("wait: %v", err)
	}
	status, err = box.SandboxStatus(ctx, &sandboxAPI.SandboxStatusRequest{SandboxID: "box"})
	if err != nil || status.State != "SANDBOX_NOTREADY" || status.ExitedAt == nil {
		t.Errorf("status after stop: %v, %v", status, err)
	}
	if _, err := box.ShutdownSandbox(ctx, &sandboxAPI.ShutdownSandboxRequest{SandboxID: "box"}); err != nil {
		t.Errorf("no answer to shutdown before the end: %v", err)
	}
	s.ends(t, 5*time.Second)
	gone(t, engine)
}

// inside reads a file of /proc/sys as a process in the same namespaces sees it.
func inside(t *testing.T, pid int, file string) string {
	t.Helper()
	read := make(chan string)
	go offMain(func() {
		for _, kind := range []string{"net", "uts"} {
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err == nil {
				err = unix.Setns(int(f.Fd()), 0)
				f.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		read <- string(raw)
	})
	return <-read
}

func TestASandboxThatCannotBeIsShutDown(t *testing.T) {
	for name, r := range map[string]*sandboxAPI.CreateSandboxRequest{
		"no such netns":     {SandboxID: "box", NetnsPath: "/no/such/netns"},
		"options of runc":   {SandboxID: "box", Options: &anypb.Any{TypeUrl: "containerd.runc.v1.Options"}},
		"the node's sysctl": {SandboxID: "box", Options: options(t, &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{Sysctls: map[string]string{"vm.swappiness": "1"}}})},
		"the node's network's sysctl": {SandboxID: "box", Options: options(t, &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}},
			Sysctls:         map[string]string{"net.ipv4.ip_forward": "1"}}})},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, "box")
			box := sandboxAPI.NewTTRPCSandboxClient(s.conn)
			if _, err := box.CreateSandbox(t.Context(), r); err == nil || errdefs.IsNotImplemented(errgrpc.ToNative(err)) {
				t.Errorf("create: %v", err)
			}
			if _, err := box.ShutdownSandbox(t.Context(), &sandboxAPI.ShutdownSandboxRequest{SandboxID: "box"}); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			s.ends(t, 5*time.Second)
		})
	}
}
