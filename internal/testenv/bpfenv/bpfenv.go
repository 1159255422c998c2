// Package bpfenv makes what tests of eBPF programs stand on: a private bpffs, cgroups, network namespaces, sockets that
// belong to them, known traffic, and the kernel's own figures about it.
//
// It uses no program of the machine, so that a test binary also runs as the only one of a virtual machine.
package bpfenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

// Main is testenv.Main for packages that use Pod, whose sockets a second process of the test binary makes:
//
//	func TestMain(m *testing.M) { os.Exit(bpfenv.Main(m)) }
func Main(m *testing.M) int {
	if os.Getenv(brokerEnv) != "" {
		return broke()
	}
	code := testenv.Main(m)
	if shared.dir != "" {
		if err := errors.Join(unix.Unmount(shared.dir, 0), os.Remove(shared.dir)); err != nil {
			fmt.Fprintf(os.Stderr, "the tests' bpffs is still used: %v\n", err)
			return 1
		}
	}
	return code
}

var shared struct {
	sync.Mutex
	dir string // guarded by Mutex
}

// SharedBPFFS mounts one bpffs for all tests of the package, for those that need not see programs being loaded: that
// takes seconds in a virtual machine. Main unmounts it.
func SharedBPFFS(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.dir != "" {
		return shared.dir
	}
	dir, err := os.MkdirTemp("", "h")
	if err == nil {
		err = unix.Mount("bpf", dir, "bpf", 0, "")
	}
	if err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	shared.dir = dir
	return dir
}

// BPFFS mounts a bpffs of the test's own and returns its directory. At the test's end it is unmounted, and what is
// pinned in it goes with it.
func BPFFS(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := testenv.ShortDir(t)
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return dir
}

var serial atomic.Int64

// Cgroup makes an empty cgroup2 directory, which must be free of processes again when the test ends.
func Cgroup(t testing.TB) string {
	t.Helper()
	return CgroupBelow(t, CgroupRoot(t))
}

// CgroupBelow makes an empty cgroup below another.
func CgroupBelow(t testing.TB, parent string) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := filepath.Join(parent, fmt.Sprintf("hachi-test-%d-%d", os.Getpid(), serial.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("make cgroup: %v", err)
	}
	t.Cleanup(func() { RemoveCgroup(t, dir) })
	return dir
}

// RemoveCgroup removes a cgroup now, waiting a moment for its last process to be reaped. That it is gone is fine.
func RemoveCgroup(t testing.TB, dir string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("remove cgroup: %v", err)
			return
		}
	}
}

// ID is the cgroup id of a directory: its inode.
func ID(t testing.TB, cgroup string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(cgroup, &st); err != nil {
		t.Fatalf("stat cgroup: %v", err)
	}
	return st.Ino
}
