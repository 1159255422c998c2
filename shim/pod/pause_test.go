package pod_test

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/pod/podtest"
	"github.com/hachi-run/hachi/shim/stdio"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestThePauseContainerRunsNothing(t *testing.T) {
	r := podtest.New(t)
	for sig, code := range map[syscall.Signal]uint32{syscall.SIGTERM: 0, syscall.SIGKILL: 137} {
		o := r.Options(t, "p", podtest.Spec("p"))
		o.Find = nil
		c, err := r.Create(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec("e", &specs.Process{Args: []string{"true"}}, stdio.Config{}); !errdefs.IsNotImplemented(err) {
			t.Errorf("exec: %v", err)
		}
		if _, err := c.Stats(); err != nil {
			t.Errorf("stats: %v", err)
		}
		dirs := recorded(t, o).Cgroups
		if len(dirs) == 0 {
			t.Error("no cgroup by which kubelet could find the pod's network")
		}
		for _, dir := range dirs {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
		}
		want(t, "pause", c.Pause(), errdefs.IsNotImplemented)
		want(t, "update", c.Update(&specs.LinuxResources{}), ok)
		want(t, "no signal", c.Kill("", 99, false), errdefs.IsInvalidArgument)
		want(t, "SIGCONT", c.Kill("", syscall.SIGCONT, false), ok)
		want(t, "delete while it runs", r.Delete(t.Context(), "p"), errdefs.IsFailedPrecondition)
		want(t, sig.String(), c.Kill("", sig, true), ok)
		if x := exit(t, c.Init); x.Code != code || c.Init.State() != pod.Stopped {
			t.Errorf("%v: %+v, %s", sig, x, c.Init.State())
		}
		want(t, "kill after exit", c.Kill("", sig, false), errdefs.IsNotFound)
		if err := r.Delete(t.Context(), "p"); err != nil {
			t.Error(err)
		}
		for _, dir := range dirs {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("after delete, %s: %v", dir, err)
			}
		}
	}
}
