package wasi_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestSuiteThroughRun runs every program as a user would, with hachi run: compiled by a worker, loaded from its artefact,
// in the jail of an engine process.
func TestSuiteThroughRun(t *testing.T) {
	all := files(t)
	hachi := filepath.Join(testenv.Bin(t), "hachi")
	forEach(t, all, nil, func(t *testing.T, p program) (outcome, error) {
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
		return ended(exec.CommandContext(ctx, hachi, args...))
	})
}

// ended runs a command to its end, whose code is the program's.
func ended(cmd *exec.Cmd) (outcome, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
		err = nil // the code says how it went
	}
	return outcome{uint32(cmd.ProcessState.ExitCode()), stdout.String(), stderr.String()}, err
}
