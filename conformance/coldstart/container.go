package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/hachi-run/hachi/internal/testenv/leak"
)

// first notes when the first byte comes.
type first struct {
	once sync.Once
	at   chan time.Time
}

func newFirst() *first { return &first{at: make(chan time.Time, 1)} }

func (f *first) Write(p []byte) (int, error) {
	f.once.Do(func() { f.at <- time.Now() })
	return len(p), nil
}

// task is a running container.
type task struct {
	c    client.Container
	t    client.Task
	exit <-chan client.ExitStatus
}

func (b *bench) start(ctx context.Context, s side, program, id string, out io.Writer) (*task, error) {
	image, err := b.c.GetImage(ctx, s.image(program))
	if err != nil {
		return nil, err
	}
	r := &task{}
	r.c, err = b.c.NewContainer(ctx, id, client.WithImage(image), client.WithSnapshotter("overlayfs"), client.WithNewSnapshot(id, image),
		client.WithRuntime(s.runtime, nil), client.WithNewSpec(oci.WithImageConfig(image)))
	if err != nil {
		return nil, err
	}
	if r.t, err = r.c.NewTask(ctx, cio.NewCreator(cio.WithFIFODir(filepath.Join(b.dir, "fifo")), cio.WithStreams(nil, out, out))); err != nil {
		return nil, err
	}
	if r.exit, err = r.t.Wait(ctx); err != nil {
		return nil, err
	}
	return r, r.t.Start(ctx)
}

func (r *task) remove(ctx context.Context) error {
	if _, err := r.t.Delete(ctx, client.WithProcessKill); err != nil {
		return err
	}
	return r.c.Delete(ctx, client.WithSnapshotCleanup)
}

// unpack makes the images' snapshots, so that no measurement does.
func (b *bench) unpack(ctx context.Context, program string) error {
	for _, s := range sides {
		image, err := b.c.GetImage(ctx, s.image(program))
		if err != nil {
			return err
		}
		if err := image.Unpack(ctx, "overlayfs"); err != nil {
			return err
		}
	}
	return nil
}

// firstByte measures from the NewContainer call to the program's first byte at the client.
func (b *bench) firstByte(ctx context.Context, n int) ([]row, error) {
	ctx = b.ctx(ctx)
	var rows []row
	for _, r := range []row{
		{what: "C program: NewContainer to first byte", unit: "ms", bar: 0.40},
		{what: "9 MB Go net/http program: the same", unit: "ms", bar: 0.60},
	} {
		program := map[bool]string{true: "hello", false: "http"}[len(rows) == 0]
		if err := b.unpack(ctx, program); err != nil {
			return nil, err
		}
		const warm = 2 // the first start compiles
		for i := range n + warm {
			for _, s := range sides {
				f := newFirst()
				begin := time.Now()
				t, err := b.start(ctx, s, program, b.id(s), f)
				if err != nil {
					return nil, fmt.Errorf("%s %s: %w", s.name, program, err)
				}
				select {
				case at := <-f.at:
					if i >= warm {
						r.add(s, at.Sub(begin).Seconds()*1000)
					}
				case <-time.After(20 * time.Second):
					st, err := t.t.Status(ctx)
					return nil, fmt.Errorf("%s %s, start %d: no first byte within 20 s; the task is %s (exit code %d), %w", s.name, program, i, st.Status, st.ExitStatus, err)
				}
				if err := t.remove(ctx); err != nil {
					return nil, fmt.Errorf("%s %s: %w", s.name, program, err)
				}
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// throughput counts whole lives of containers, eight at a time, and what one costs the machine: on a busy one the
// processor time says more than the clock.
func (b *bench) throughput(ctx context.Context, n int) ([]row, error) {
	ctx = b.ctx(ctx)
	r := row{what: "C program: lives per second, 8 at once", unit: "1/s", bar: 3, more: true}
	cost := row{what: "C program: processor time of a life", unit: "ms", bar: 0.33}
	idle := leak.Below()
	for range 3 {
		for _, s := range sides {
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(8)
			before, err := b.cpu(idle)
			if err != nil {
				return nil, err
			}
			begin := time.Now()
			for range 2 * n {
				id := b.id(s)
				g.Go(func() error {
					t, err := b.start(ctx, s, "hello", id, io.Discard)
					if err != nil {
						return fmt.Errorf("%s: %w", s.name, err)
					}
					if st := <-t.exit; st.ExitCode() != 0 {
						return fmt.Errorf("%s: exit code %d, %w", s.name, st.ExitCode(), st.Error())
					}
					return t.remove(ctx)
				})
			}
			if err := g.Wait(); err != nil {
				return nil, err
			}
			r.add(s, float64(2*n)/time.Since(begin).Seconds())
			after, err := b.cpu(idle)
			if err != nil {
				return nil, err
			}
			cost.add(s, (after-before).Seconds()*1000/float64(2*n))
		}
	}
	return []row{r, cost}, nil
}

// stop kills a task and waits for its end.
func (r *task) stop(ctx context.Context) error {
	if err := r.t.Kill(ctx, unix.SIGKILL); err != nil {
		return err
	}
	<-r.exit
	return r.remove(ctx)
}
