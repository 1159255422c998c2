// Package podtest is what tests of a pod's parts stand on: the real engine, real cgroups, a real guest, and as
// much of a containerd as they need.
package podtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/runtime/artifact/store"
	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/pod"
)

// Patience is how long a test waits for what takes milliseconds.
const Patience = 20 * time.Second

// Parent is the group above all containers of this test process.
var Parent = fmt.Sprintf("/hachi-podtest-%d", os.Getpid())

// Rig is a pod with all that it needs.
type Rig struct {
	*pod.Pod
	Containerd *Containerd
	Images     *image.Source
	// Notebook is the pod's Observer. It also notes whose connections are redirected: nobody's when Refuse is not nil.
	Notebook *Notebook
	Refuse   error
}

// New makes a pod. When the test ends it is closed, and a process or cgroup that is left fails the test.
func New(t testing.TB) *Rig {
	t.Helper()
	testenv.NeedRoot(t)
	engineBinary := filepath.Join(testenv.Bin(t), "hachi-engine")
	manager, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Kept from run to run: compiling the guest takes seconds.
	st, err := store.Open(store.Options{Dir: filepath.Join(filepath.Dir(engineBinary), "podtest-artifacts"), Compile: engine.Compiler(engineBinary, nil)})
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{Containerd: NewContainerd(t), Notebook: new(Notebook)}
	r.Images = &image.Source{Address: r.Containerd.Address, Namespace: "podtest"}
	r.Pod = pod.New(pod.Options{Engine: engineBinary, Namespace: "podtest", Artifacts: st, Groups: groups{manager}, Observer: r.Notebook, Steer: r.steer, Grace: 2 * time.Second})
	t.Cleanup(func() {
		r.Close()
		if err := r.Images.Close(); err != nil {
			t.Error(err)
		}
		if err := manager.Close(); err != nil {
			t.Error(err)
		}
		for _, dir := range Cgroups(Parent) {
			if left, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs")); len(left) > 0 {
				t.Errorf("cgroups left: %q", left)
			}
			err := os.Remove(dir)
			for deadline := time.Now().Add(time.Second); err != nil && time.Now().Before(deadline); err = os.Remove(dir) {
				time.Sleep(time.Millisecond)
			}
			if err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
		}
	})
	return r
}

// steer is pod.Options.Steer.
func (r *Rig) steer(_ context.Context, id string, _ map[string]string, _ pod.Group) (func(), error) {
	if r.Refuse != nil {
		return nil, r.Refuse
	}
	r.Notebook.note("steer %s", id)
	return func() { r.Notebook.note("free %s", id) }, nil
}

// Cgroups are the directories of a group in all hierarchies.
func Cgroups(path string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	more, _ := filepath.Glob("/sys/fs/cgroup" + path)
	return append(all, more...)
}

// Spec is a container's that runs the probe with args (see conformance/containerd/probe).
func Spec(id string, args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: append([]string{"/probe.wasm"}, args...), Env: []string{"PATH=/"}, Cwd: "/"},
		Root:    &specs.Root{Path: "rootfs"},
		Linux:   &specs.Linux{CgroupsPath: Parent + "/" + id, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}},
	}
}

// Bundle writes a bundle as containerd does, with the probe in its root file system.
func Bundle(t testing.TB, spec *specs.Spec) (bundle.Bundle, []*types.Mount) {
	t.Helper()
	probe := guest.Built(t, guest.WASI, "conformance/containerd/probe")
	dir := t.TempDir()
	root := filepath.Join(dir, "snapshot")
	for _, d := range []string{root, filepath.Join(dir, "rootfs")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", "--reflink=auto", probe, filepath.Join(root, "probe.wasm")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b, []*types.Mount{{Type: "bind", Source: root, Options: []string{"rbind", "rw"}}}
}

// Options are a new container's in the rig, with its stdout in a file, as Output reads it.
func (r *Rig) Options(t testing.TB, id string, spec *specs.Spec) pod.ContainerOptions {
	t.Helper()
	b, mounts := Bundle(t, spec)
	o := pod.ContainerOptions{ID: id, Bundle: b}
	for _, m := range mounts {
		o.Rootfs = append(o.Rootfs, specs.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	o.Find = func(ctx context.Context) (*image.Image, error) { return r.Images.Resolve(ctx, id, b.Spec, o.Rootfs) }
	o.IO.Stdout = "file://" + filepath.Join(b.Path, "stdout")
	o.IO.Stderr = o.IO.Stdout
	return o
}

// Await waits until text is in the file that a file:// URI names.
func Await(t testing.TB, uri, text string) {
	t.Helper()
	var raw []byte
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if raw, _ = os.ReadFile(strings.TrimPrefix(uri, "file://")); strings.Contains(string(raw), text) {
			return
		}
	}
	t.Fatalf("no %q in %s; there is %q", text, uri, raw)
}

// groups makes real cgroups, whose processes are plain children.
type groups struct{ *cgroup.Manager }

func (g groups) Create(path string, r *specs.LinuxResources) (pod.Group, error) {
	made, err := g.Manager.Create(path, r)
	if err != nil {
		return nil, err
	}
	return group{made}, nil
}

type group struct{ *cgroup.Group }

func (g group) Starter() engine.Starter {
	return func(cmd *exec.Cmd) (func() int, error) {
		if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
			return nil, err
		}
		return func() int {
			_ = cmd.Wait() // the state says it all
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if status.Signaled() {
				return 128 + int(status.Signal())
			}
			return status.ExitStatus()
		}, nil
	}
}
