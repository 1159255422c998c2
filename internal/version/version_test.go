package version

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	i := Info{Version: "v1.2.3", Commit: "0123456789abcdef0123", Modified: true, Go: "go1.26", Platform: "linux/arm64"}
	if got, want := i.String(), "v1.2.3 (0123456789ab modified, go1.26, linux/arm64)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Get(); got.Version != "devel" || !strings.HasPrefix(got.Go, "go1.") {
		t.Errorf("got %+v", got)
	}
}

// The linker flag of the Makefile names a variable that exists: a wrong name is silently ignored.
func TestLinkerFlag(t *testing.T) {
	program := filepath.Join(t.TempDir(), "v.test")
	build := exec.Command("go", "test", "-c", "-o", program, "-ldflags", "-X github.com/hachi-run/hachi/internal/version.version=v9.9.9", ".")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, err := exec.Command(program, "-test.run", "TestString").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "v9.9.9") {
		t.Errorf("the flag did not reach the program: %v\n%s", err, out)
	}
}
