package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image/pack"
)

// TestPodPullsLayouts pulls an image of every layout from a registry and runs it in a pod, as a kubelet does.
func TestPodPullsLayouts(t *testing.T) {
	module, err := os.ReadFile(buildC(t, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	registry := images.Registry(t)
	layouts := images.Layouts(module)
	refs := map[string]string{}
	for _, l := range layouts {
		refs[l.Name] = pushLayout(t, registry, l)
	}
	forEachPod(t, func(t *testing.T, n *node) {
		if !n.wasm() {
			return
		}
		for _, l := range layouts {
			t.Run(l.Name, func(t *testing.T) {
				verdict := l.CRI
				if strings.HasPrefix(n.version, "1.") {
					verdict = l.CRI17
				}
				var args []string
				if verdict == images.NeedsCommand {
					args = l.Args
				}
				err := n.pullAndRun(t, refs[l.Name], args)
				switch {
				case verdict == images.Refused && err == nil:
					t.Errorf("%s: containerd %s is said to refuse it, and it ran", l.About, n.version)
				case verdict != images.Refused && err != nil:
					t.Errorf("%s: %v", l.About, err)
				}
			})
		}
	})
}

func pushLayout(t *testing.T, registry string, l images.Layout) (ref string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, l.Archive, 0o644); err != nil {
		t.Fatal(err)
	}
	i, err := pack.OpenArchive(archive, "")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	ref = registry + "/pulled/" + strings.ToLower(l.Name) + ":v1"
	if _, err := (pack.Registry{}).Push(t.Context(), i, ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

// pullAndRun waits for the guest's greeting in the container's log. An error is containerd's refusal.
func (n *node) pullAndRun(t *testing.T, ref string, args []string) error {
	t.Helper()
	image := &cri.ImageSpec{Image: ref}
	if _, err := n.images.PullImage(n.ctx, &cri.PullImageRequest{Image: image}); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() {
		if _, err := n.images.RemoveImage(n.ctx, &cri.RemoveImageRequest{Image: image}); err != nil {
			t.Errorf("remove image: %v", err)
		}
	}()
	p := n.pod(t, nil)
	id, err := p.tryStart("main", ref, 0, args...)
	if err != nil {
		return err
	}
	if st := n.exited(t, id); st.ExitCode != 0 {
		t.Errorf("exit code %d: %s", st.ExitCode, st.Message)
	}
	p.logged(t, "main", "hello from C")
	return nil
}
