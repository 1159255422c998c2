package pack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image/pack"
)

// TestContainerdTakesIt imports what Build makes into containerd, with the flag that the README names,
// and pulls it from a registry; either way a container can be made of it.
func TestContainerdTakesIt(t *testing.T) {
	testenv.NeedRoot(t)
	hangUp(t)
	registry := images.Registry(t)
	for _, version := range daemon.Versions {
		t.Run(version, func(t *testing.T) {
			d := daemon.Test(t, version, daemon.Options{})
			ctr := func(args ...string) string {
				t.Helper()
				out, err := d.Ctr(t.Context(), append([]string{"-n", d.Mark()}, args...)...)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			static := filepath.Join(t.TempDir(), "www")
			write(t, filepath.Join(static, "index.html"), []byte("<p>hi</p>"), 0o644)
			for kind, dirs := range map[string][]string{"module": nil, "static": {static + ":/srv"}} {
				i := build(t, pack.Options{Name: registry + "/" + kind + ":v1", Dirs: dirs, Ports: []string{"8080"}})
				file := filepath.Join(t.TempDir(), "image.tar")
				if err := i.Save(t.Context(), file); err != nil {
					t.Fatal(err)
				}
				ctr("image", "import", "--all-platforms", file)
				if out := ctr("image", "ls"); !strings.Contains(out, i.Name) || !strings.Contains(out, i.Target.Digest.String()) {
					t.Errorf("%s: image ls:\n%s", kind, out)
				}
				ctr("container", "create", i.Name, kind+"-imported")
				if dirs != nil {
					at := t.TempDir()
					ctr("image", "mount", i.Name, at)
					page, err := os.ReadFile(filepath.Join(at, "srv/index.html"))
					ctr("image", "unmount", "--rm", at)
					if err != nil || string(page) != "<p>hi</p>" {
						t.Errorf("static file: got %q, %v", page, err)
					}
				}

				ctr("image", "rm", "--sync", i.Name)
				if _, err := (pack.Registry{}).Push(t.Context(), i, i.Name); err != nil {
					t.Fatal(err)
				}
				ctr("image", "pull", "--plain-http", i.Name)
				ctr("container", "create", i.Name, kind+"-pulled")
			}
		})
	}
}
