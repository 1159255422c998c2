package containerd

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestManyAtOnce starts and deletes 200 containers, 16 at a time, and then looks for what is left.
func TestManyAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.clean(t)
		image, err := w.c.GetImage(w.ctx, w.image)
		if err != nil {
			t.Fatal(err)
		}
		if unpacked, err := image.IsUnpacked(w.ctx, ""); err == nil && !unpacked {
			if err := image.Unpack(w.ctx, ""); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Minute)
		defer cancel()
		begin := time.Now()
		const all, atOnce = 200, 16
		var g errgroup.Group
		g.SetLimit(atOnce)
		for i := range all {
			g.Go(func() error {
				if err := w.once(ctx, image, fmt.Sprintf("many-%s-%d", w.name, i), i%200); err != nil {
					return fmt.Errorf("container %d: %w", i, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		t.Logf("%d containers, %d at once: %v", all, atOnce, time.Since(begin).Round(time.Millisecond))
	})
}

// once runs one container to its end and checks its output and its exit code.
func (w *world) once(ctx context.Context, image client.Image, id string, want int) (err error) {
	c, err := w.c.NewContainer(ctx, id, client.WithImage(image), client.WithNewSnapshot(id, image), client.WithRuntime(w.runtime, nil),
		client.WithNewSpec(oci.WithImageConfigArgs(image, []string{"exit", itoa(want)})))
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Delete(ctx, client.WithSnapshotCleanup); err == nil {
			err = e
		}
	}()
	var out stream
	task, err := c.NewTask(ctx, cio.NewCreator(cio.WithFIFODir(filepath.Join(w.dir, "fifo")), cio.WithStreams(nil, &out, &out)))
	if err != nil {
		return fmt.Errorf("new task: %w", err)
	}
	defer func() {
		if _, e := task.Delete(ctx, client.WithProcessKill); err == nil {
			err = e
		}
	}()
	exit, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	select {
	case st := <-exit:
		if st.Error() != nil || int(st.ExitCode()) != want || out.String() != "" {
			return fmt.Errorf("want exit code %d and no output, got %d, %v, %q", want, st.ExitCode(), st.Error(), out.String())
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
