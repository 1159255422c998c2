package pod_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/pod/podtest"
	"github.com/hachi-run/hachi/shim/stdio"
)

// freePort is a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A container's account, and the redirection of its connections, begin in an empty cgroup and before its first socket, and
// end when nothing of it runs any more but its cgroup is there. Its execs are part of it.
func TestAccountOfALife(t *testing.T) {
	r := podtest.New(t)
	r.Notebook.Port = freePort(t)
	spec := podtest.Spec("a", "ready")
	spec.Annotations = map[string]string{"hachi.run/listen": fmt.Sprintf("127.0.0.1:%d", r.Notebook.Port), "test": "yes"}
	o := r.Options(t, "a", spec)
	c, err := r.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	podtest.Await(t, o.IO.Stdout, "ready")
	if _, err := c.Exec("e", &specs.Process{Args: []string{"true"}, Cwd: "/"}, stdio.Config{}); err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(t.Context(), "e")
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	stats, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	counted, ok := stats.(interface{ GetNetwork() []*metrics.Network })
	if !ok || len(counted.GetNetwork()) != 1 || counted.GetNetwork()[0].Name != "a" {
		t.Errorf("metrics of a container whose traffic is counted: %+v", stats)
	}
	if err := c.Kill("", syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	<-c.Init.Done()
	for range 2 {
		_ = r.Delete(t.Context(), "a")
	}
	want := []string{
		"observe a yes: 0 processes, error <nil>",
		"steer a",
		"ready a: port closed",
		"ready a: port open", // the exec's, whose account is the container's
		"traffic a",
		"end a: 0 processes, 0 groups gone",
		"free a",
	}
	if diff := cmp.Diff(want, r.Notebook.Notes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What never came to be has no account, and neither has the pause container.
func TestAccountOfNothing(t *testing.T) {
	r := podtest.New(t)
	o := r.Options(t, "a", podtest.Spec("a", "ready"))
	broken := errors.New("no such image")
	o.Find = func(context.Context) (*image.Image, error) { return nil, broken }
	if _, err := r.Create(t.Context(), o); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	want := []string{"observe a : 0 processes, error <nil>", "steer a", "undo a: 0 processes, 0 groups gone", "free a"}
	if diff := cmp.Diff(want, r.Notebook.Notes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	pause := r.Options(t, "p", podtest.Spec("p"))
	pause.Find = nil
	if _, err := r.Create(t.Context(), pause); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r.Notebook.Notes()); diff != "" {
		t.Errorf("with the pause container, -want +got:\n%s", diff)
	}
}

// A pod whose connections cannot go where they should has no container.
func TestWithoutItsRedirection(t *testing.T) {
	r := podtest.New(t)
	r.Refuse = errors.New("no way there")
	if _, err := r.Create(t.Context(), r.Options(t, "a", podtest.Spec("a", "ready"))); !errors.Is(err, r.Refuse) {
		t.Errorf("got %v", err)
	}
	if left := podtest.Cgroups(podtest.Parent + "/a"); len(left) > 0 || !r.Empty() {
		t.Errorf("left %q", left)
	}
	r.Refuse = nil
	if _, err := r.Create(t.Context(), r.Options(t, "b", podtest.Spec("b", "ready"))); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"observe a : 0 processes, error <nil>", "undo a: 0 processes, 0 groups gone",
		"observe b : 0 processes, error <nil>", "steer b", "ready b: port closed", "end b: 0 processes, 0 groups gone", "free b",
	}
	if diff := cmp.Diff(want, r.Notebook.Notes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
