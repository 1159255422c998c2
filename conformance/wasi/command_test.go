package wasi_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestSuiteThroughRun runs every program as a user would, with hachi run: compiled by a worker, loaded from its artefact,
// in the jail of an engine process.
func TestSuiteThroughRun(t *testing.T) {
	provide := func(t *testing.T) { testenv.Bin(t) } // once, and not in the time of a program
	forEach(t, provide, func(t *testing.T, p program) (outcome, error) {
		args := []string{"run"}
		for _, e := range p.environ() {
			args = append(args, "-e", e)
		}
		for guest, host := range p.dirs {
			args = append(args, "-v", host+":"+guest)
		}
		args = append(append(args, "--timeout", limit.String(), p.file), p.Args...)
		ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
		defer cancel()
		return ended(exec.CommandContext(ctx, filepath.Join(testenv.Bin(t), "hachi"), args...))
	})
}
