package leak_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// want checks that exactly the kinds in want are left, and that nothing is after undo.
func want(t *testing.T, before leak.State, s leak.Scope, kind string, undo func()) {
	t.Helper()
	if left := leak.Since(before, s, 0); len(left) != 1 || !strings.HasPrefix(left[0], kind+" ") {
		t.Errorf("want one %s left, got %q", kind, left)
	}
	undo()
	if left := leak.Since(before, s, 2*time.Second); len(left) != 0 {
		t.Errorf("want nothing left, got %q", left)
	}
}

func TestSocketAndFile(t *testing.T) {
	dir := testenv.ShortDir(t)
	sockets, both := leak.Scope{Marks: []string{dir}}, leak.Scope{Trees: []string{dir}}
	before := leak.Take(sockets)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, before, sockets, "socket", func() { l.Close() })

	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, before, both, "file", func() { os.Remove(filepath.Join(dir, "f")) })
}

func TestMountAndCgroup(t *testing.T) {
	testenv.NeedRoot(t)
	dir := testenv.ShortDir(t)
	s := leak.Scope{Marks: []string{dir, filepath.Base(dir)}}
	before := leak.Take(s)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	want(t, before, s, "mount", func() { syscall.Unmount(dir, 0) })

	for _, hierarchy := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		cg := filepath.Join(hierarchy, filepath.Base(dir))
		if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil {
			continue
		}
		if err := os.Mkdir(cg, 0o755); err != nil {
			t.Fatal(err)
		}
		want(t, before, s, "cgroup", func() { os.Remove(cg) })
	}
}

func TestOrphanIsFoundAndReaped(t *testing.T) {
	release, err := reap.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	before := leak.Take(leak.Scope{})
	// The shell's child gets a session of its own and outlives the shell.
	if err := exec.Command("setsid", "-f", "sleep", "60").Run(); err != nil {
		t.Fatal(err)
	}
	// It is its parent's child, in its group, until it has run setsid(2).
	for deadline := time.Now().Add(5 * time.Second); len(leak.Since(before, leak.Scope{}, 0)) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	want(t, before, leak.Scope{}, "process", func() {
		for _, p := range leak.Children() {
			if p.Comm == "sleep" {
				syscall.Kill(p.PID, syscall.SIGKILL)
			}
		}
	})
	deadline := time.Now().Add(2 * time.Second)
	for len(leak.Children()) != 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if left := leak.Children(); len(left) != 0 {
		t.Errorf("a zombie was not reaped: %+v", left)
	}
}
