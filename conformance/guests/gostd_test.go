package guests

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestGoStandardLibrary runs the tests that Go brings for its own packages as guests: code of its compiler's that knows its
// right results.
func TestGoStandardLibrary(t *testing.T) {
	hachi := filepath.Join(testenv.Bin(t), "hachi")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	for _, pkg := range []string{"sort", "maps", "strconv", "reflect", "encoding/json", "compress/flate", "text/template", "sync"} {
		t.Run(pkg, func(t *testing.T) {
			if tests, _ := filepath.Glob(filepath.Join(src, pkg, "*_test.go")); len(tests) == 0 {
				t.Skip("this installation of Go has come without the tests of its packages")
			}
			module := filepath.Join(t.TempDir(), "test.wasm")
			build := exec.Command("go", "test", "-c", "-o", module, pkg)
			build.Env = append(build.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", build.Args, err, out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			// Go's tests look for testdata where they are.
			out, err := exec.CommandContext(ctx, hachi, "run", "-v", src+":/src:ro", "-v", t.TempDir()+":/tmp", "-w", "/src/"+pkg,
				module, "-test.short").CombinedOutput()
			if err != nil || !strings.HasSuffix(string(out), "PASS\n") {
				t.Errorf("%v\n%s", err, out[max(0, len(out)-4096):])
			}
		})
	}
}
