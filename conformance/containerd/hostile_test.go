package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/internal/testenv/images"
)

// TestHostile runs guests and images that mean harm.
func TestHostile(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if !w.wasm() {
			return
		}
		for _, c := range []tableCase{
			{"endless recursion", nil, recursion},
			{"endless memory", nil, endlessMemory},
			{"symlinks out of a volume", nil, symlinks},
			{"truncated module", nil, truncated},
			{"missing layer", nil, missingLayer},
			{"exec of what is not there", nil, execNonsense},
			{"checkpoint", nil, checkpoint},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := *w
				w.clean(t)
				c.run(t, &w)
			})
		}
	})
}

// program makes a C guest the world's image.
func (w *world) program(t *testing.T, src string) {
	t.Helper()
	w.image = "example.test/" + strings.TrimSuffix(filepath.Base(src), ".c") + ":wasm"
	w.importWasm(t, w.image, buildC(t, src))
}

func recursion(t *testing.T, w *world) {
	w.program(t, "samples/hostile/recursion.c")
	code, c := w.run(t)
	if code != 134 || !strings.Contains(c.stderr.String(), "stack") {
		t.Errorf("want exit code 134 and a word about the stack, got %d, %.300q", code, c.stderr.String())
	}
}

func endlessMemory(t *testing.T, w *world) {
	w.program(t, "samples/hostile/memory.c")
	code, c := w.runWith(t, setup{spec: []oci.SpecOpts{oci.WithMemoryLimit(64 << 20)}})
	if code != 137 {
		t.Errorf("want exit code 137, got %d, %.300q", code, c.stderr.String())
	}
}

func symlinks(t *testing.T, w *world) {
	dir := t.TempDir()
	secret := mustWrite(t, filepath.Join(dir, "secret"), "the host's secret")
	if err := os.Mkdir(filepath.Join(dir, "volume"), 0o777); err != nil {
		t.Fatal(err)
	}
	w.program(t, "samples/hostile/symlink.c")
	for _, file := range []string{secret, "/etc/hostname", "/proc/1/cmdline"} {
		code, c := w.runWith(t, setup{args: []string{"/volume", file}, spec: []oci.SpecOpts{
			oci.WithMounts([]specs.Mount{bind(filepath.Join(dir, "volume"), "/volume", "rw")})}})
		if code != 0 {
			t.Errorf("%s: exit code %d: %q %q", file, code, c.stdout.String(), c.stderr.String())
		}
	}
}

func truncated(t *testing.T, w *world) {
	raw, err := os.ReadFile(buildC(t, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	w.image = w.importLayout(t, images.Layouts(raw[:len(raw)/2])[0])
	c, err := w.tryCreate(t, setup{})
	if err == nil {
		err = c.task.Start(w.ctx)
	}
	if err == nil || !strings.Contains(err.Error(), ".wasm") {
		t.Errorf("want an error that names the module, got %v", err)
	}
}

func missingLayer(t *testing.T, w *world) {
	raw, err := os.ReadFile(buildC(t, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	raw = images.Variant(raw, w.version) // a digest that no cache has seen
	w.image = w.importLayout(t, images.Layouts(raw)[0])
	digest := strings.TrimPrefix(images.Digest(raw), "sha256:")
	if err := os.Remove(filepath.Join(w.dir, "root/io.containerd.content.v1.content/blobs/sha256", digest)); err != nil {
		t.Fatal(err)
	}
	_, err = w.tryCreate(t, setup{})
	if err == nil || !strings.Contains(err.Error(), digest) {
		t.Errorf("want an error that names %s, got %v", digest, err)
	}
}

func (w *world) importLayout(t *testing.T, l images.Layout) string {
	t.Helper()
	archive := mustWrite(t, filepath.Join(t.TempDir(), "image.tar"), string(l.Archive))
	if _, err := w.d.Ctr(w.ctx, "-n", w.d.Mark(), "image", "import", "--all-platforms", archive); err != nil {
		t.Fatal(err)
	}
	return l.Ref
}

func execNonsense(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	for args, want := range map[string]string{"env": "FROM_IMAGE=yes", "ls /": "etc"} {
		p, out, exit := c.execArgs(t, "tool-"+args[:2], nil, strings.Fields(args)...)
		if got := code(t, exit); got != 0 {
			t.Errorf("%s: exit code %d: %s", args, got, out.String())
		}
		p.IO().Wait()
		if want != "etc" && !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is missing from %q", args, want, out.String())
		}
	}
	if _, _, _, err := c.tryExec(t, "shell", nil, "/bin/sh", "-c", "true"); !errdefs.IsNotImplemented(err) {
		t.Errorf("a shell in a Wasm container: want not implemented, got %v", err)
	}
}

func checkpoint(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	if _, err := c.task.Checkpoint(w.ctx, client.WithCheckpointImagePath(t.TempDir())); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("want a refusal that names what is refused, got %v", err)
	}
	if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Running {
		t.Errorf("after the refusal the task is %v, %v", st.Status, err)
	}
}
