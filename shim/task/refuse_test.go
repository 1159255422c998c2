package task_test

import (
	"path/filepath"
	"strings"
	"testing"

	taskAPI "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hachi-run/hachi/shim/pod/podtest"
)

// TestBadSpecsAreRefused gives specs that cannot be run. Each error says what is wrong, is no Unimplemented, which
// would make containerd call again with an older service, and leaves nothing.
func TestBadSpecsAreRefused(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		change func(*specs.Spec)
		says   string
	}{
		"no arguments": {func(s *specs.Spec) { s.Process.Args = nil }, ""},
		"user namespace": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, "user namespaces"},
		"bad annotations": {func(s *specs.Spec) {
			s.Annotations = map[string]string{"hachi.run/listen": "http", "hachi.run/stop-grace": "soon"}
		}, "hachi.run/stop-grace"},
		"unknown rlimit": {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONE", Soft: 1, Hard: 1}} }, "RLIMIT_NONE"},
		"soft above hard rlimit": {func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 9, Hard: 8}}
		}, "RLIMIT_NOFILE"},
		"unknown mount type": {func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/m", Type: "nfs", Source: "a:/b"}} }, "nfs"},
		"mount without source": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/m", Type: "bind", Source: "/no/such/dir"}}
		}, "/no/such/dir"},
		"too little memory": {func(s *specs.Spec) {
			limit := int64(1)
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}, "16Mi"},
		"user that is none":  {func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 }, "4294967295"},
		"the node's sysctl":  {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x"} }, "kernel.core_pattern"},
		"cgroup of the root": {func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/../.." }, "cgroup"},
	} {
		spec := podtest.Spec("bad", "ready")
		c.change(spec)
		b, mounts := podtest.Bundle(t, spec)
		_, err := s.Create(t.Context(), &taskAPI.CreateTaskRequest{ID: "bad", Bundle: b.Path, Rootfs: mounts})
		if err == nil || errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, c.says)
		}
		if left := podtest.Cgroups(podtest.Parent + "/bad"); len(left) > 0 || !s.rig.Empty() {
			t.Errorf("%s: left %q, empty %v", name, left, s.rig.Empty())
		}
	}
	if got := s.Lines(); len(got) != 0 {
		t.Errorf("events of containers that never were: %q", got)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s := newService(t)
	s.create(t, "a", "ready")
	broken := &anypb.Any{Value: []byte(`{"args":`)}
	gone, invalid := errdefs.IsNotFound, errdefs.IsInvalidArgument
	for name, c := range map[string]struct {
		err error
		is  func(error) bool
	}{
		"create without a bundle": {second(s.Create(t.Context(), &taskAPI.CreateTaskRequest{ID: "b", Bundle: filepath.Join(t.TempDir(), "none")})), gone},
		"create a second time":    {again(t, s), errdefs.IsAlreadyExists},
		"start an unknown":        {second(s.Start(t.Context(), &taskAPI.StartRequest{ID: "b"})), gone},
		"start an unknown exec":   {second(s.Start(t.Context(), &taskAPI.StartRequest{ID: "a", ExecID: "e"})), gone},
		"state of an unknown":     {second(s.State(t.Context(), &taskAPI.StateRequest{ID: "b"})), gone},
		"delete an unknown":       {second(s.Delete(t.Context(), &taskAPI.DeleteRequest{ID: "b"})), gone},
		"delete an unknown exec":  {second(s.Delete(t.Context(), &taskAPI.DeleteRequest{ID: "a", ExecID: "e"})), gone},
		"exec of garbage":         {second(s.Exec(t.Context(), &taskAPI.ExecProcessRequest{ID: "a", ExecID: "e", Spec: broken})), invalid},
		"exec of nothing":         {second(s.Exec(t.Context(), &taskAPI.ExecProcessRequest{ID: "a", ExecID: "e"})), invalid},
		"update with garbage":     {second(s.Update(t.Context(), &taskAPI.UpdateTaskRequest{ID: "a", Resources: broken})), invalid},
		"no such signal":          {second(s.Kill(t.Context(), &taskAPI.KillRequest{ID: "a", Signal: 1 << 31})), invalid},
		"resize no terminal":      {second(s.ResizePty(t.Context(), &taskAPI.ResizePtyRequest{ID: "a", Width: 1})), errdefs.IsFailedPrecondition},
		"close no stdin":          {second(s.CloseIO(t.Context(), &taskAPI.CloseIORequest{ID: "a", Stdin: true})), func(err error) bool { return err == nil }},
		"pause before start":      {second(s.Pause(t.Context(), &taskAPI.PauseRequest{ID: "a"})), errdefs.IsFailedPrecondition},
		"resume before start":     {second(s.Resume(t.Context(), &taskAPI.ResumeRequest{ID: "a"})), errdefs.IsFailedPrecondition},
		"checkpoint":              {second(s.Checkpoint(t.Context(), &taskAPI.CheckpointTaskRequest{ID: "a"})), errdefs.IsNotImplemented},
	} {
		if !c.is(c.err) {
			t.Errorf("%s: got %v", name, c.err)
		}
	}
}

func again(t *testing.T, s *service) error {
	b, mounts := podtest.Bundle(t, podtest.Spec("a", "ready"))
	return second(s.Create(t.Context(), &taskAPI.CreateTaskRequest{ID: "a", Bundle: b.Path, Rootfs: mounts}))
}
