package pod_test

import (
	"context"
	"errors"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/pod/podtest"
)

// TestALinuxContainerLeavesNoTrace: its engine was on its way when it turned out what it is. What is wrong with it as a
// Wasm container is not said then.
func TestALinuxContainerLeavesNoTrace(t *testing.T) {
	r := podtest.New(t)
	for name, annotation := range map[string]string{"plain": "none", "with what no Wasm container may have": "nonsense"} {
		spec := podtest.Spec("a")
		spec.Annotations = map[string]string{"hachi.run/listen": annotation}
		o := r.Options(t, "a", spec)
		o.Find = func(context.Context) (*image.Image, error) {
			if annotation == "none" {
				// Not before there is something to leave.
				for len(children(t)) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			return &image.Image{Kind: image.Linux}, nil
		}
		if _, err := r.Create(t.Context(), o); !errors.Is(err, pod.ErrLinux) {
			t.Errorf("%s: got %v", name, err)
		}
		if left := children(t); len(left) > 0 {
			t.Errorf("%s: processes %q are left", name, left)
		}
		if left := podtest.Cgroups(podtest.Parent + "/a"); len(left) > 0 || !r.Empty() {
			t.Errorf("%s: left %q", name, left)
		}
		if _, err := os.Stat(filepath.Join(o.Bundle.Path, "hachi.json")); !os.IsNotExist(err) {
			t.Errorf("%s: the record is left: %v", name, err)
		}
	}
}

// children are this process's.
func children(t *testing.T) []string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range lists {
		text, _ := os.ReadFile(l) // a thread may have ended
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

func TestAnImageThatIsNotFoundCountsFirst(t *testing.T) {
	r := podtest.New(t)
	spec := podtest.Spec("a")
	spec.Annotations = map[string]string{"hachi.run/listen": "nonsense"}
	o := r.Options(t, "a", spec)
	gone := errors.New("no such image")
	o.Find = func(context.Context) (*image.Image, error) { return nil, gone }
	if _, err := r.Create(t.Context(), o); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// TestListenersAreTheContainersOwn: the sockets are of the container's cgroup, which pays for them, and one that cannot be
// had is an error of Create.
func TestListenersAreTheContainersOwn(t *testing.T) {
	r := podtest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	spec := podtest.Spec("a", "ready")
	spec.Annotations = map[string]string{"hachi.run/listen": address}
	o := r.Options(t, "a", spec)
	_, err = r.Create(t.Context(), o)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), address+": bind: address already in use (set annotation hachi.run/listen") {
		t.Errorf("an address in use: %v", err)
	}
	l.Close()
	if _, err := r.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	out, err := osexec.Command("ss", "-H", "-n", "-l", "-t", "--cgroup", "src", address).CombinedOutput()
	if err != nil {
		t.Skipf("no ss of iproute2: %v %s", err, out)
	}
	if want := podtest.Parent + "/a"; !strings.Contains(string(out), want) {
		t.Errorf("the socket is %q, want it in %s", out, want)
	}
}
