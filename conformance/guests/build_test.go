package guests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

// source is a file of testdata.
func source(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func do(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func c(t *testing.T) string { return guest.Built(t, guest.WASI, "conformance/guests/testdata/tour.c") }

// rust compiles with the first compiler that has the target: Debian's when rustup's, which comes first in PATH, has not
// got it. The target's name changed with Rust 1.84.
func rust(t *testing.T) string {
	out := filepath.Join(t.TempDir(), "tour.wasm")
	probe := filepath.Join(t.TempDir(), "probe.rs")
	if err := os.WriteFile(probe, []byte("fn main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, compiler := range []string{"rustc", "/usr/bin/rustc"} {
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			if exec.Command(compiler, "--target", target, "-o", out, probe).Run() != nil {
				continue
			}
			do(t, "", compiler, "--edition", "2021", "--target", target, "-O", "-o", out, source(t, "tour.rs"))
			return out
		}
	}
	t.Skip("needs rustc with the target wasm32-wasip1 or wasm32-wasi (Debian: rustc, libstd-rust-dev-wasm32): run make deps")
	return ""
}

// assemblyScript installs the compiler from npm into a directory of its own. Versions are pinned.
func assemblyScript(t *testing.T) string {
	npm, node := testenv.NeedTool(t, "npm"), testenv.NeedTool(t, "node")
	dir := t.TempDir()
	install := exec.Command(npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "assemblyscript@0.28.20", "@assemblyscript/wasi-shim@0.1.0")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("needs the npm registry for AssemblyScript's compiler: %v\n%s", err, out)
	}
	text, err := os.ReadFile(source(t, "tour.ts"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "tour.ts"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	do(t, dir, node, "node_modules/assemblyscript/bin/asc.js", "tour.ts", "--config", "node_modules/@assemblyscript/wasi-shim/asconfig.json", "-O", "-o", "tour.wasm")
	return filepath.Join(dir, "tour.wasm")
}
