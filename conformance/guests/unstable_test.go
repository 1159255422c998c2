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

// TestUnstable runs a command that was made for preview 1's predecessor, whose numbers and records differ.
func TestUnstable(t *testing.T) {
	hachi, clang := filepath.Join(testenv.Bin(t), "hachi"), testenv.NeedTool(t, "clang")
	module := filepath.Join(t.TempDir(), "unstable.wasm")
	do(t, "", clang, "--target=wasm32", "-O1", "-nostdlib", "-o", module, source(t, "unstable.c"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, hachi, "run", "-v", t.TempDir()+":/data", module)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != 9 || stdout.String() != "7891" {
		t.Errorf("exit code %d, stdout %q, want 9 and 7891; stderr %q", code, stdout.String(), stderr.String())
	}
}
