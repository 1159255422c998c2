package containerd

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

var (
	kindsFlag    = flag.String("kinds", "runc,linux,wasm", "which kinds of container to run")
	versionsFlag = flag.String("versions", strings.Join(daemon.Versions, ","), "which containerds to run under")
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// kind is one column of the table.
type kind struct {
	name    string
	runtime string
	image   string
	entry   string
	// shim is the command name of the process that serves the task.
	shim string
}

func (k kind) wasm() bool  { return k.name == "wasm" }
func (k kind) hachi() bool { return k.name != "runc" }

var kinds = []kind{
	{"runc", "io.containerd.runc.v2", linuxImage, "/bin/probe", "containerd-shim-runc-v2"},
	{"linux", "io.containerd.hachi.v1", linuxImage, "/bin/probe", "hachi-shim"},
	{"wasm", "io.containerd.hachi.v1", wasmImage, "/probe.wasm", "hachi-shim"},
}

const (
	linuxImage = "example.test/probe:linux"
	wasmImage  = "example.test/probe:wasm"
)

// wanted returns the kinds that this run asked for.
func wanted() []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return !slices.Contains(strings.Split(*kindsFlag, ","), k.name)
	})
}

func hachiWanted() bool { return slices.ContainsFunc(wanted(), kind.hachi) }

// forEach runs f once per version and kind, with a containerd per version.
func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	testenv.NeedRoot(t)
	for _, version := range strings.Split(*versionsFlag, ",") {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t, version)
			for _, k := range wanted() {
				t.Run(k.name, func(t *testing.T) {
					if !k.wasm() || !k.hachi() {
						testenv.NeedTool(t, "runc")
					}
					w := *w
					w.kind = k
					f(t, &w)
				})
			}
		})
	}
}

// world is a containerd with both images in it.
type world struct {
	kind
	d *daemon.Daemon
	c *client.Client
	// ctx carries the namespace and ends before the test's own deadline would.
	ctx     context.Context
	version string
	dir     string
}

func newWorld(t *testing.T, version string) *world {
	t.Helper()
	o := daemon.Options{}
	if hachiWanted() {
		o.Path = []string{testenv.Bin(t)}
	}
	d := daemon.Test(t, version, o)
	c, err := client.New(d.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &world{d: d, c: c, version: version, dir: filepath.Dir(d.Address)}
	w.ctx = namespaces.WithNamespace(context.Background(), d.Mark())
	var names []string
	for _, k := range wanted() {
		names = append(names, k.image)
	}
	w.importImages(t, d.Mark(), names...)
	return w
}

// importImages puts images into a containerd namespace.
func (w *world) importImages(t *testing.T, namespace string, names ...string) {
	t.Helper()
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		archive := filepath.Join(w.dir, strings.ReplaceAll(filepath.Base(name), ":", "-")+".tar")
		if name == linuxImage {
			packLinux(t, archive)
		} else {
			packWasm(t, guest.Built(t, guest.WASI, "conformance/containerd/probe"), name, archive)
		}
		if _, err := w.d.Ctr(w.ctx, "-n", namespace, "image", "import", "--all-platforms", archive); err != nil {
			t.Fatal(err)
		}
	}
}

func packLinux(t *testing.T, archive string) {
	t.Helper()
	img, err := linux.Image(
		[]linux.File{{Path: "bin/probe", From: guest.Built(t, guest.Linux, "conformance/containerd/probe")}},
		v1.Config{Entrypoint: []string{"/bin/probe"}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := linux.Archive(img, linuxImage, archive); err != nil {
		t.Fatal(err)
	}
}

// packWasm uses the product's own builder, as a user would. The module's file name becomes its entrypoint, so
// it is copied to the name that the table expects.
func packWasm(t *testing.T, module, name, archive string, flags ...string) {
	t.Helper()
	named := filepath.Join(t.TempDir(), "probe.wasm")
	if err := os.Symlink(module, named); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build", named, "-t", name, "-o", archive, "--env", "FROM_IMAGE=yes"}, flags...)
	command(t, filepath.Join(testenv.Bin(t), "hachi"), args...)
}

func buildC(t *testing.T, src string) string {
	t.Helper()
	return guest.Built(t, guest.WASI, src)
}

// importWasm builds an image around a module; flags are those of hachi build.
func (w *world) importWasm(t *testing.T, name, module string, flags ...string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	packWasm(t, module, name, archive, flags...)
	if _, err := w.d.Ctr(w.ctx, "-n", w.d.Mark(), "image", "import", "--all-platforms", archive); err != nil {
		t.Fatal(err)
	}
}

// clean fails the test if something of the namespace is left on the machine that was not there before.
func (w *world) clean(t *testing.T) {
	t.Helper()
	scope := leak.Scope{
		Marks: []string{w.d.Mark()}, Trees: []string{"/run/hachi"},
		// The namespace's own cgroup, the parent of all its containers', stays until the daemon's end.
		Spare: func(name string) bool { return filepath.Base(name) == w.d.Mark() },
	}
	before := leak.Take(scope)
	t.Cleanup(func() {
		for _, l := range leak.Since(before, scope, 5*time.Second) {
			t.Errorf("left behind: %s", l)
		}
	})
}
