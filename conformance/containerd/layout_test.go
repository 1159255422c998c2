package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv/images"
)

// TestLayouts runs an image of every layout that Wasm is found in, as `ctr` does it: those that
// containerd lets through must run, the others must fail with words and leave nothing.
func TestLayouts(t *testing.T) {
	module, err := os.ReadFile(buildC(t, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, w *world) {
		if !w.wasm() {
			return
		}
		for _, l := range images.Layouts(module) {
			t.Run(l.Name, func(t *testing.T) {
				w.clean(t)
				verdict := l.Ctr
				if strings.HasPrefix(w.version, "1.") {
					verdict = l.Ctr17
				}
				out, err := w.runLayout(t, l, verdict)
				switch {
				case verdict == images.OK || verdict == images.NeedsPlatform:
					if err != nil || !strings.Contains(out, "hello from C") {
						t.Errorf("%s: want its greeting, got %q, %v", l.About, out, err)
					}
				case err == nil:
					t.Errorf("%s: containerd %s is said to refuse it, and it ran: %q", l.About, w.version, out)
				}
			})
		}
	})
}

func (w *world) runLayout(t *testing.T, l images.Layout, verdict images.Verdict) (string, error) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, l.Archive, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := w.d.Ctr(w.ctx, "-n", w.d.Mark(), "image", "import", "--all-platforms", "--no-unpack", archive); err != nil {
		return out, err
	}
	id := fmt.Sprintf("layout-%s-%d", strings.ToLower(l.Name), serial.Add(1))
	args := []string{"-n", w.d.Mark(), "run", "--rm", "--runtime", w.runtime}
	if verdict == images.NeedsPlatform {
		args = append(args, "--platform", "wasip1/wasm")
	}
	args = append(args, l.Ref, id)
	out, err := w.d.Ctr(w.ctx, append(args, l.Args...)...)
	if err != nil {
		// ctr leaves the container's record when its task could not be made.
		_, _ = w.d.Ctr(w.ctx, "-n", w.d.Mark(), "container", "rm", id)
	}
	return out, err
}
