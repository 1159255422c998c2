// Package testenv finds or makes what tests of the real thing stand on: root, the product's binaries,
// the pinned tools, short directories, and a process that ends as it began.
//
// Its sub-packages go further: daemon runs a private containerd, leak compares the machine before and
// after, guest compiles Wasm and Linux programs, linux packs a Linux image, registry serves images.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Module is the import path whose go.mod marks the top of the source tree.
const Module = "github.com/hachi-run/hachi"

// NeedRoot skips a test of an ordinary user.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run make test as root")
	}
}

// NeedTool returns the path of a program from the machine, or skips the test.
func NeedTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which is not installed: run make deps", name)
	}
	return path
}

// Source returns the top of the source tree, found upwards from the working directory.
func Source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find source tree: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		mod, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+Module+"\n") {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("find source tree: %s: no go.mod of %s here or above", dir, Module)
		}
	}
}

// Bin returns the folder of the product's binaries, built from this tree. It is safe in parallel tests
// and in parallel test processes; the second build costs what the go command needs to see that nothing changed.
func Bin(t testing.TB) string {
	t.Helper()
	return made(t, "build", "bin")
}

// Samples returns the folder of the sample guests, *.wasm.
func Samples(t testing.TB) string {
	t.Helper()
	return made(t, "samples", "bin/samples")
}

// Containerd returns the folder of containerd, ctr and containerd-shim-runc-v2 of a version that
// conformance/tools pins: "2.4.2" or "1.7.35".
func Containerd(t testing.TB, version string) string {
	t.Helper()
	return made(t, "containerd-"+version, "bin/tools/containerd-"+version)
}

// ClientSuite returns containerd 2.4.2's own client tests, compiled; beside it a file "source" names the folder they
// came from.
func ClientSuite(t testing.TB) string {
	t.Helper()
	return filepath.Join(made(t, "clientsuite", "bin/tools/clientsuite"), "client.test")
}

// CRITest returns critest 1.36.0, the conformance suite of CRI.
func CRITest(t testing.TB) string {
	t.Helper()
	return filepath.Join(made(t, "critest", "bin/tools/cri-tools-1.36.0"), "critest")
}

// CNIPlugins returns the folder of the CNI project's own plugins, 1.8.0.
func CNIPlugins(t testing.TB) string {
	t.Helper()
	return made(t, "cni-plugins", "bin/tools/cni-plugins-1.8.0")
}

// ShortDir returns a new directory with a path short enough for unix sockets in it (they end at 107
// bytes, and t.TempDir spells the test's name out). It is removed when the test ends.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something still uses the test's directory: %v", err)
		}
	})
	return dir
}

func made(t testing.TB, target, dir string) string {
	t.Helper()
	top, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(top, dir)
	if _, err := exec.LookPath("make"); err != nil {
		// A machine without a tool chain, such as make test-cgroup2's, has what came along.
		if _, err := os.Stat(dir); err != nil {
			t.Skipf("needs what make %s builds, and there is no make: %v", target, err)
		}
		return dir
	}
	if err := Make(target); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	makeMu sync.Mutex
	makes  = map[string]error{} // guarded by makeMu
)

// Make runs a target of the Makefile, once in this process and never beside another process's.
func Make(target string) error {
	makeMu.Lock()
	defer makeMu.Unlock()
	if err, done := makes[target]; done {
		return err
	}
	makes[target] = runMake(target)
	return makes[target]
}

func runMake(target string) (err error) {
	top, err := Source()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(top, "bin"), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(top, "bin", ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	cmd := exec.Command("make", "--no-print-directory", "-C", top, target)
	// A make above us would hand its job server down, whose descriptors we do not have.
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MAKE") && !strings.HasPrefix(kv, "MFLAGS") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make %s: %w\n%s", target, err, out)
	}
	return nil
}
