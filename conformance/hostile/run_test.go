package hostile

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// Bounds that hold unless a case says otherwise.
const (
	bound     = 10 * time.Second
	peakBound = 160 << 20
)

// guestRun is one hostile guest and what has to become of it.
type guestRun struct {
	flags  []string // of hachi run
	file   string
	module *module // instead of file
	args   []string
	stdin  *os.File

	code int
	// says is what must be in stdout or stderr.
	says []string
	// within is how long it may take; 0 means bound.
	within time.Duration
	// peak is how much memory any process of it may have resident at any time, in bytes; 0 means peakBound.
	peak int64
}

// outcome is how a run ended.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
	// peak is the largest resident set of any process of the run, in bytes.
	peak int64
}

// check runs the guest beside a neighbour that must not notice.
func (g guestRun) check(t *testing.T, n *neighbour) outcome {
	t.Helper()
	if g.within == 0 {
		g.within = bound
	}
	if g.peak == 0 {
		g.peak = peakBound
	}
	watch := n.watch()
	o := g.run(t)
	slowest, err := watch()
	t.Logf("exit code %d after %v, peak %d MiB, neighbour's slowest answer %v", o.code, o.took.Round(time.Millisecond), o.peak>>20, slowest.Round(time.Millisecond))
	if err != nil {
		t.Errorf("neighbour: %v", err)
	}
	if slowest > patience {
		t.Errorf("the neighbour's slowest answer took %v, want at most %v", slowest, patience)
	}
	if o.code != g.code {
		t.Errorf("exit code %d, want %d\nstdout: %.500s\nstderr: %.1000s", o.code, g.code, o.stdout, o.stderr)
	}
	for _, want := range g.says {
		if !strings.Contains(o.stdout+o.stderr, want) {
			t.Errorf("no %q in stdout %.500q or stderr %.1000q", want, o.stdout, o.stderr)
		}
	}
	if o.took > g.within {
		t.Errorf("took %v, want at most %v", o.took, g.within)
	}
	if o.peak > g.peak {
		t.Errorf("%d MiB resident at the peak, want at most %d", o.peak>>20, g.peak>>20)
	}
	return o
}

// run runs the guest to its end and kills it after twice its time.
func (g guestRun) run(t *testing.T) outcome {
	t.Helper()
	if g.module != nil {
		g.file = moduleFile(t, g.module.bytes())
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*max(g.within, bound), errors.New("endless"))
	defer cancel()
	cmd := g.command(ctx, t)
	stdout, stderr := &head{}, &head{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	began := time.Now()
	_ = cmd.Run() // the state says it all
	if ctx.Err() != nil {
		t.Fatalf("had to be killed after %v\nstdout: %.500s\nstderr: %.1000s", time.Since(began), stdout.b.Bytes(), stderr.b.Bytes())
	}
	return ended(cmd, began, stdout, stderr)
}

func (g guestRun) command(ctx context.Context, t testing.TB) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(testenv.Bin(t), "hachi"), slices.Concat([]string{"run"}, g.flags, []string{g.file}, g.args)...)
	cmd.WaitDelay = time.Second
	if g.stdin != nil {
		cmd.Stdin = g.stdin
	}
	return cmd
}

func ended(cmd *exec.Cmd, began time.Time, stdout, stderr *head) outcome {
	o := outcome{took: time.Since(began), stdout: stdout.b.String(), stderr: stderr.b.String(), code: -1}
	if cmd.ProcessState != nil {
		o.code = cmd.ProcessState.ExitCode()
		// hachi waits for its engines, so their peak counts as its own; getrusage(2).
		o.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	return o
}

// head keeps the first bytes of an output and drops the rest.
type head struct{ b bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := 64<<10 - h.b.Len(); room > 0 {
		h.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
