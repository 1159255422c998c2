package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
)

// patience is how long a test waits for what must happen; all that is waited for takes milliseconds.
const patience = 20 * time.Second

// container is a container with a task that a test made.
type container struct {
	w    *world
	id   string
	c    client.Container
	task client.Task
	exit <-chan client.ExitStatus

	stdout, stderr stream
}

// setup is what a test wants beside the arguments.
type setup struct {
	stdin    io.Reader
	stdout   io.Writer   // instead of container.stdout
	logTo    cio.Creator // instead of streams to this process
	terminal bool
	spec     []oci.SpecOpts
	args     []string
}

var serial atomic.Int64

// create makes a container and its task and removes both when the test ends.
func (w *world) create(t *testing.T, s setup) *container {
	t.Helper()
	c, err := w.tryCreate(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) tryCreate(t *testing.T, s setup) (*container, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*patience)
	defer cancel()
	c := &container{w: w, id: fmt.Sprintf("%s-%d", w.name, serial.Add(1))}
	image, err := w.c.GetImage(ctx, w.image)
	if err != nil {
		return nil, err
	}
	if unpacked, err := image.IsUnpacked(ctx, ""); err != nil {
		return nil, err
	} else if !unpacked {
		if err := image.Unpack(ctx, ""); err != nil {
			return nil, err
		}
	}
	spec := append([]oci.SpecOpts{oci.WithImageConfigArgs(image, s.args)}, s.spec...)
	streams := []cio.Opt{cio.WithFIFODir(filepath.Join(w.dir, "fifo")), cio.WithStreams(s.stdin, c.out(s), &c.stderr)}
	if s.terminal {
		spec = append(spec, oci.WithTTY)
		streams = append(streams, cio.WithTerminal)
	}
	c.c, err = w.c.NewContainer(ctx, c.id, client.WithImage(image), client.WithNewSnapshot(c.id, image),
		client.WithRuntime(w.runtime, nil), client.WithNewSpec(spec...))
	if err != nil {
		return nil, fmt.Errorf("new container: %w", err)
	}
	t.Cleanup(func() { c.remove(t) })
	creator := cio.NewCreator(streams...)
	if s.logTo != nil {
		creator = s.logTo
	}
	if c.task, err = c.c.NewTask(ctx, creator); err != nil {
		return c, fmt.Errorf("new task: %w", err)
	}
	// The context of Wait must outlive this call.
	if c.exit, err = c.task.Wait(w.ctx); err != nil {
		return c, fmt.Errorf("wait: %w", err)
	}
	return c, nil
}

func (c *container) out(s setup) io.Writer {
	if s.stdout != nil {
		return s.stdout
	}
	return &c.stdout
}

// start creates and starts a container that runs args.
func (w *world) start(t *testing.T, args ...string) *container {
	t.Helper()
	return w.startWith(t, setup{args: args})
}

func (w *world) startWith(t *testing.T, s setup) *container {
	t.Helper()
	c := w.create(t, s)
	if err := c.task.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs args to their end and returns the exit code.
func (w *world) run(t *testing.T, args ...string) (int, *container) {
	t.Helper()
	return w.runWith(t, setup{args: args})
}

func (w *world) runWith(t *testing.T, s setup) (int, *container) {
	t.Helper()
	c := w.startWith(t, s)
	return c.wait(t), c
}

// wait waits for the exit and for the last byte of the streams.
func (c *container) wait(t *testing.T) int {
	t.Helper()
	select {
	case st := <-c.exit:
		if st.Error() != nil {
			t.Fatalf("wait for exit: %v", st.Error())
		}
		c.drain(t)
		return int(st.ExitCode())
	case <-time.After(patience):
		t.Fatalf("%s did not end within %v; stdout %q, stderr %q", c.id, patience, c.stdout.String(), c.stderr.String())
	}
	return -1
}

func (c *container) drain(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() { c.task.IO().Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("%s ended and its streams did not within %v", c.id, patience)
		c.task.IO().Cancel()
		<-done
	}
}

func (c *container) kill(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := c.task.Kill(c.w.ctx, sysSignal(sig)); err != nil {
		t.Fatalf("kill %v: %v", sig, err)
	}
}

// remove deletes what is left of the container; a test may have done so already.
func (c *container) remove(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.w.ctx, patience)
	defer cancel()
	if c.task != nil {
		_, err := c.task.Delete(ctx, client.WithProcessKill)
		// Between a shim's death and its burial containerd still talks to it.
		for err != nil && strings.Contains(err.Error(), "ttrpc: closed") && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			_, err = c.task.Delete(ctx, client.WithProcessKill)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("delete task %s: %v", c.id, err)
		}
	}
	if err := c.c.Delete(ctx, client.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("delete container %s: %v", c.id, err)
	}
}

// stream collects output while a test looks at it.
type stream struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// await waits until the stream holds text.
func (s *stream) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("output %q", text), func() error {
		if got := s.String(); !strings.Contains(got, text) {
			return fmt.Errorf("so far %q", got)
		}
		return nil
	})
}

// eventually waits until f has no objection.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	within(t, patience, what, f)
}

// within is eventually with a patience of its own, in which it tries 4000 times at most.
func within(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(limit / 4000) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, limit, err)
}

// command runs a program of the machine and fails the test when it fails.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) || err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
