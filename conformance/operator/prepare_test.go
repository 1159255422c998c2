package operator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/internal/testenv/linux"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// workshop is a containerd whose shims see dir as /var/lib/hachi, read-only: what they compile they cannot keep, and say
// so in the log.
type workshop struct {
	*daemon.Daemon
	bin, dir string
}

func newWorkshop(t *testing.T, version string) *workshop {
	t.Helper()
	testenv.NeedTool(t, "unshare")
	if err := os.MkdirAll("/var/lib/hachi", 0o700); err != nil {
		t.Fatal(err)
	}
	w := &workshop{bin: testenv.Bin(t), dir: t.TempDir()}
	path := testenv.ShortDir(t)
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount --bind %[1]s /var/lib/hachi >&2 && mount -o remount,bind,ro /var/lib/hachi >&2 && exec \"$0\" \"$@\"' %[2]s/containerd-shim-hachi-v1 \"$@\"\n", w.dir, w.bin)
	if err := os.WriteFile(filepath.Join(path, "containerd-shim-hachi-v1"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	w.Daemon = daemon.Test(t, version, daemon.Options{Path: []string{path}})
	return w
}

// prepare runs hachi prepare with dir as /var/lib/hachi, writable.
func (w *workshop) prepare(t *testing.T, args ...string) (string, error) {
	t.Helper()
	script := fmt.Sprintf("mount --bind %s /var/lib/hachi && exec \"$0\" \"$@\"", w.dir)
	args = append([]string{"--mount", "--propagation", "slave", "sh", "-c", script, filepath.Join(w.bin, "hachi"), "prepare", "-a", w.Address, "-n", w.Mark()}, args...)
	out, err := exec.Command("unshare", args...).CombinedOutput()
	return string(out), err
}

func (w *workshop) importImage(t *testing.T, archive []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ctr(t.Context(), "-n", w.Mark(), "image", "import", "--all-platforms", file); err != nil {
		t.Fatal(err)
	}
}

// artefacts are the stored files with what changes when one is made again.
func (w *workshop) artefacts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "artifacts", "*.hc"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = info.ModTime().String()
	}
	return out
}

// TestPrepare compiles images of several layouts ahead, and then runs them.
func TestPrepare(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs a C compiler for the guest: run make deps")
	}
	module, err := os.ReadFile(guest.Built(t, guest.WASI, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	perVersion(t, func(t *testing.T, version string) {
		w := newWorkshop(t, version)
		layouts := images.Layouts(module)
		for _, name := range []string{"A", "H", "L", "N"} { // a Wasm layer, a tar layer, both, two modules
			for _, l := range layouts {
				if l.Name != name {
					continue
				}
				w.importImage(t, l.Archive)
				out, err := w.prepare(t, l.Ref)
				if err != nil {
					t.Errorf("layout %s: %v\n%s", name, err, out)
				}
				// All hold the same module, and N has a second one.
				if compiled := strings.Count(out, "compiled  "); (name == "A" || name == "N") != (compiled == 1) {
					t.Errorf("layout %s: %d compiled:\n%s", name, compiled, out)
				}
				if out, err = w.prepare(t, l.Ref); err != nil || strings.Contains(out, "compiled") || !strings.Contains(out, "present   "+l.Ref) {
					t.Errorf("layout %s again: %v\n%s", name, err, out)
				}
				before := w.artefacts(t)
				w.hello(t, l.Ref)
				if after := w.artefacts(t); len(after) != len(before) {
					t.Errorf("layout %s: %d artefacts before the start, %d after it", name, len(before), len(after))
				}
			}
		}
		if n := len(w.artefacts(t)); n != 2 {
			t.Errorf("%d artefacts, want 2", n)
		}
		if out, err := w.Ctr(t.Context(), "-n", w.Mark(), "snapshots", "ls"); err != nil || strings.Contains(out, "hachi-prepare") {
			t.Errorf("snapshots are left (%v):\n%s", err, out)
		}
	})
}

// hello runs an image, which must say hello, and must not be compiled.
func (w *workshop) hello(t *testing.T, ref string) {
	t.Helper()
	before, err := os.ReadFile(w.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Ctr(t.Context(), "-n", w.Mark(), "run", "--rm", "--runtime", "io.containerd.hachi.v1", ref, "hello")
	if err != nil || !strings.Contains(out, "hello from C") {
		t.Errorf("%v\n%s", err, out)
	}
	log, err := os.ReadFile(w.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log[len(before):]), "artefact") {
		t.Errorf("the start had something to say about artefacts:\n%s", log[len(before):])
	}
}

// TestPrepareTellsCompilation is the other half: a start that does compile shows in TestPrepare's log.
func TestPrepareTellsCompilation(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs a C compiler for the guest: run make deps")
	}
	module, err := os.ReadFile(guest.Built(t, guest.WASI, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	testenv.NeedRoot(t)
	w := newWorkshop(t, daemon.Versions[0])
	if err := os.Mkdir(filepath.Join(w.dir, "artifacts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, l := range images.Layouts(module) {
		if l.Name != "A" {
			continue
		}
		w.importImage(t, l.Archive)
		if out, err := w.Ctr(t.Context(), "-n", w.Mark(), "run", "--rm", "--runtime", "io.containerd.hachi.v1", l.Ref, "hello"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if log, err := os.ReadFile(w.LogPath()); err != nil || !strings.Contains(string(log), "artefact") {
		t.Errorf("%v: the log does not tell that the module was compiled and could not be kept", err)
	}
}

// TestPrepareRefuses: bad input is refused with what to do.
func TestPrepareRefuses(t *testing.T) {
	testenv.NeedRoot(t)
	w := newWorkshop(t, daemon.Versions[0])
	img, err := linux.Image([]linux.File{{Path: "bin/true", Data: "\x7fELF"}}, v1.Config{Entrypoint: []string{"/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "linux.tar")
	if err := linux.Archive(img, "example.test/linux:v1", archive); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ctr(t.Context(), "-n", w.Mark(), "image", "import", archive); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.wasm")
	if err := os.WriteFile(bad, []byte("\x00asm\x01\x00\x00\x00\x99"), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{
		"example.test/linux:v1":   "a Linux image",
		"example.test/nothing:v1": "say -n",
		"none.wasm":               "no such file",
		bad:                       "module",
	} {
		if out, err := w.prepare(t, arg); err == nil || !strings.Contains(out, want) {
			t.Errorf("prepare %s: %v, %q; want an error with %q", arg, err, out, want)
		}
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := w.prepare(t, "example.test/linux:v1"); err == nil || !strings.Contains(out, "is containerd running?") {
		t.Errorf("without containerd: %v, %q", err, out)
	}
}
