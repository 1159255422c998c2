package guests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// said is what every program writes to stdout.
const said = `args: [one] [two words] []
env: hello = world
stdin: first line
stdin: second
file: written by the guest
outside: closed
entries: 2
clock: ok
`

// TestTour runs the same tour of arguments, environment, stdio, files, clocks and exit code in each language.
func TestTour(t *testing.T) {
	for name, build := range map[string]func(*testing.T) string{
		"C, wasi-libc": c, "Rust": rust, "AssemblyScript": assemblyScript,
	} {
		t.Run(name, func(t *testing.T) { tour(t, build(t)) })
	}
}

func tour(t *testing.T, module string) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "there"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(testenv.Bin(t), "hachi"), "run", "-v", data+":/data", "-e", "GREETING=hello = world",
		module, "one", "two words", "")
	cmd.Stdin = strings.NewReader("first line\nsecond\n")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if diff := cmp.Diff(said, stdout.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if stderr.String() != "bye\n" {
		t.Errorf("stderr: %q", stderr.String())
	}
	if b, err := os.ReadFile(filepath.Join(data, "tour.txt")); err != nil || string(b) != "written by the guest" {
		t.Errorf("on the host the file says %q, %v", b, err)
	}
}
