package containerd

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

// exec starts the container's own program a second time, with other arguments.
func (c *container) exec(t *testing.T, id string, stdin io.Reader, args ...string) (client.Process, *stream, <-chan client.ExitStatus) {
	t.Helper()
	return c.execArgs(t, id, stdin, append([]string{c.w.entry}, args...)...)
}

// execArgs starts another process in a container.
func (c *container) execArgs(t *testing.T, id string, stdin io.Reader, args ...string) (client.Process, *stream, <-chan client.ExitStatus) {
	t.Helper()
	p, out, exit, err := c.tryExec(t, id, stdin, args...)
	if err != nil {
		t.Fatalf("exec %q: %v", args, err)
	}
	return p, out, exit
}

func (c *container) tryExec(t *testing.T, id string, stdin io.Reader, args ...string) (client.Process, *stream, <-chan client.ExitStatus, error) {
	t.Helper()
	spec, err := c.c.Spec(c.w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	process := *spec.Process
	process.Args, process.Terminal = args, false
	out := &stream{}
	creator := cio.NewCreator(cio.WithFIFODir(filepath.Join(c.w.dir, "fifo")), cio.WithStreams(stdin, out, out))
	p, err := c.task.Exec(c.w.ctx, id, &process, creator)
	if err != nil {
		return nil, nil, nil, err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(c.w.ctx, patience)
		defer cancel()
		if _, err := p.Delete(ctx, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("delete exec %s: %v", id, err)
		}
	})
	exit, err := p.Wait(c.w.ctx)
	if err == nil {
		err = p.Start(c.w.ctx)
	}
	return p, out, exit, err
}

func code(t *testing.T, exit <-chan client.ExitStatus) int {
	t.Helper()
	select {
	case st := <-exit:
		return int(st.ExitCode())
	case <-time.After(patience):
		t.Fatal("the process did not end")
		return -1
	}
}

func execs(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	p, out, exit := c.exec(t, "e1", nil, "both", "out", "")
	if got := code(t, exit); got != 0 {
		t.Errorf("want exit code 0, got %d: %s", got, out.String())
	}
	p.IO().Wait()
	if out.String() != "out" {
		t.Errorf("want its own output, got %q", out.String())
	}
	if _, _, exit := c.exec(t, "e2", nil, "exit", "9"); code(t, exit) != 9 {
		t.Error("want exit code 9")
	}
	in := strings.Repeat("line\n", 1000)
	p, out, exit = c.exec(t, "e3", strings.NewReader(in), "cat")
	eventually(t, "echo", func() error {
		if n := len(out.String()); n != len(in) {
			return &shortError{n, len(in)}
		}
		return nil
	})
	if err := p.CloseIO(w.ctx, client.WithStdinCloser); err != nil {
		t.Error(err)
	}
	if got := code(t, exit); got != 0 {
		t.Errorf("cat: exit code %d", got)
	}
	if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Running {
		t.Errorf("after three execs the container is %v, %v", st.Status, err)
	}
	if got := c.stdout.String(); got != "ready\n" {
		t.Errorf("an exec's output went to the container's: %q", got)
	}
}

func execKilled(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	p, out, exit := c.exec(t, "e", nil, "spin")
	out.await(t, "ready")
	if err := p.Kill(w.ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := code(t, exit); got != 137 {
		t.Errorf("want exit code 137, got %d", got)
	}
	if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Running {
		t.Errorf("the container is %v, %v", st.Status, err)
	}
	// The other way round: a container that ends takes its execs along.
	_, out, exit = c.exec(t, "f", nil, "ready")
	out.await(t, "ready")
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
	if got := code(t, exit); got != 137 {
		t.Errorf("exec of a killed container: want exit code 137, got %d", got)
	}
}

func terminal(t *testing.T, w *world) {
	var in bytes.Buffer
	c := w.create(t, setup{args: []string{"tty"}, terminal: true, stdin: &in})
	if err := c.task.Resize(w.ctx, 101, 37); err != nil {
		t.Fatal(err)
	}
	if err := c.task.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	want := "101x37\r\n"
	if w.wasm() {
		want = "terminal\r\n"
	}
	if got := c.wait(t); got != 0 || c.stdout.String() != want {
		t.Errorf("code %d: want %q, got %q", got, want, c.stdout.String())
	}
}

func closeStdin(t *testing.T, c *container) {
	t.Helper()
	if err := c.task.CloseIO(c.w.ctx, client.WithStdinCloser); err != nil {
		t.Error(err)
	}
}
