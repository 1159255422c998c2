// Package guest compiles programs for containers: Go and C, for WASI preview 1 and for Linux.
package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

// Target is what a program is compiled for.
type Target int

// The two kinds of container.
const (
	WASI  Target = iota // wasm32, wasi_snapshot_preview1
	Linux               // static, this machine's processor
)

// Go compiles the main package in dir into the file out. It needs nothing but the go command.
func Go(target Target, dir, out string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if target == WASI {
		cmd.Env = append(cmd.Env, "GOOS=wasip1", "GOARCH=wasm")
	}
	return run(cmd)
}

// C compiles one C file into the file out. WASI needs clang, lld and wasi-libc, Linux a compiler called cc.
func C(target Target, src, out string) error {
	if target == WASI {
		return run(exec.Command("clang", "--target=wasm32-wasi", "-O2", "-Wl,--strip-all", "-o", out, src))
	}
	return run(exec.Command("cc", "-O2", "-static", "-s", "-o", out, src))
}

// HaveC tells whether this machine can compile C for the target, by the way it is done.
var HaveC = func() func(Target) bool {
	probe := func(target Target) func() bool {
		return sync.OnceValue(func() bool {
			dir, err := os.MkdirTemp("", "cc")
			if err != nil {
				return false
			}
			defer os.RemoveAll(dir)
			src := filepath.Join(dir, "x.c")
			return os.WriteFile(src, []byte("#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n"), 0o600) == nil &&
				C(target, src, filepath.Join(dir, "x")) == nil
		})
	}
	wasi, linux := probe(WASI), probe(Linux)
	return func(t Target) bool {
		if t == WASI {
			return wasi()
		}
		return linux()
	}
}()

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Built compiles a program for a test once per test process and returns the file. src is relative to the top of
// the source tree: a folder with a Go main package, or a C file, which skips the test without a compiler.
func Built(t testing.TB, target Target, src string) string {
	t.Helper()
	isC := strings.HasSuffix(src, ".c")
	top, err := testenv.Source()
	if err != nil {
		t.Fatal(err)
	}
	// In bin/, so that the next test process finds it: the go command and C compilers are fast when asked again.
	suffix := map[Target]string{WASI: ".wasm", Linux: ".linux"}[target]
	out := filepath.Join(top, "bin", "guests", strings.ReplaceAll(strings.TrimSuffix(src, ".c"), "/", "-")+suffix)
	if _, err := exec.LookPath("go"); err != nil {
		// A machine without a tool chain, such as make test-cgroup2's, has what came along.
		if _, err := os.Stat(out); err != nil {
			t.Fatalf("there is no Go to build a guest: %v", err)
		}
		return out
	}
	if isC && !HaveC(target) {
		t.Skip("needs a C compiler for the guest (clang, lld, wasi-libc, libclang-rt-14-dev-wasm32; gcc for Linux): run make deps")
	}
	build, _ := builds.LoadOrStore(key{target, src}, sync.OnceValue(func() error {
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		// Beside and renamed: another process may have the file open or be writing it too.
		tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
		compile := Go
		if isC {
			compile = C
		}
		if err := compile(target, filepath.Join(top, src), tmp); err != nil {
			return err
		}
		return os.Rename(tmp, out)
	}))
	if err := build.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return out
}

type key struct {
	target Target
	src    string
}

var builds sync.Map // key -> func() error
