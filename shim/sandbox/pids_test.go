package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/internal/testenv"
)

func child(cmd *exec.Cmd) (func() int, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() int { _ = cmd.Wait(); return cmd.ProcessState.ExitCode() }, nil
}

func TestContainersShareANamespaceOfTheirOwn(t *testing.T) {
	testenv.NeedRoot(t)
	p := &PIDs{Binary: filepath.Join(testenv.Bin(t), "hachi-engine"), Start: child}
	defer p.Close()
	spec := func(path string) *specs.Spec {
		return &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: path}, {Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}}}}
	}
	a, b := spec("/proc/self/ns/pid"), spec("/proc/self/ns/pid")
	for _, s := range []*specs.Spec{a, b} {
		if changed, err := p.Redirect(s); err != nil || !changed {
			t.Fatalf("redirect: %v, %v", changed, err)
		}
	}
	path := a.Linux.Namespaces[0].Path
	if path != b.Linux.Namespaces[0].Path || ours(path) || a.Linux.Namespaces[1].Path != "/proc/self/ns/net" {
		t.Errorf("got %+v and %+v, want one new namespace for both", a.Linux.Namespaces, b.Linux.Namespaces)
	}
	other := spec(path)
	if changed, err := p.Redirect(other); err != nil || changed {
		t.Errorf("a namespace that is not the server's: %v, %v; want it left alone", changed, err)
	}
	if changed, err := p.Redirect(spec("")); err != nil || changed {
		t.Errorf("a new namespace: %v, %v; want it left alone", changed, err)
	}
	// What joins the namespace goes with it.
	in := exec.Command("nsenter", "--pid="+path, "sleep", "60")
	if err := in.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = in.Wait(); close(ended) }()
	time.Sleep(100 * time.Millisecond) // for nsenter's fork
	p.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a process outlives its namespace")
		_ = in.Process.Signal(syscall.SIGKILL)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the namespace's first process is still there")
	}
	p.Close() // once more does nothing
}
