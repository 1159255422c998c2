package task_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/pod/podtest"

	"github.com/hachi-run/hachi/shim/taskpb"
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
		_, err := s.Create(t.Context(), &taskpb.CreateTaskRequest{Id: "bad", Bundle: b.Path, Rootfs: rootfs(mounts)})
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
	broken := &taskpb.Any{Value: []byte(`{"args":`)}
	gone, invalid := errdefs.IsNotFound, errdefs.IsInvalidArgument
	for name, c := range map[string]struct {
		err error
		is  func(error) bool
	}{
		"create without a bundle": {second(s.Create(t.Context(), &taskpb.CreateTaskRequest{Id: "b", Bundle: filepath.Join(t.TempDir(), "none")})), gone},
		"create a second time":    {again(t, s), errdefs.IsAlreadyExists},
		"start an unknown":        {second(s.Start(t.Context(), &taskpb.ProcessRequest{Id: "b"})), gone},
		"start an unknown exec":   {second(s.Start(t.Context(), &taskpb.ProcessRequest{Id: "a", ExecId: "e"})), gone},
		"state of an unknown":     {second(s.State(t.Context(), &taskpb.ProcessRequest{Id: "b"})), gone},
		"delete an unknown":       {second(s.Delete(t.Context(), &taskpb.ProcessRequest{Id: "b"})), gone},
		"delete an unknown exec":  {second(s.Delete(t.Context(), &taskpb.ProcessRequest{Id: "a", ExecId: "e"})), gone},
		"exec of garbage":         {second(s.Exec(t.Context(), &taskpb.ExecProcessRequest{Id: "a", ExecId: "e", Spec: broken})), invalid},
		"exec of nothing":         {second(s.Exec(t.Context(), &taskpb.ExecProcessRequest{Id: "a", ExecId: "e"})), invalid},
		"update with garbage":     {second(s.Update(t.Context(), &taskpb.UpdateTaskRequest{Id: "a", Resources: broken})), invalid},
		"no such signal":          {second(s.Kill(t.Context(), &taskpb.KillRequest{Id: "a", Signal: 1 << 31})), invalid},
		"resize no terminal":      {second(s.ResizePty(t.Context(), &taskpb.ResizePtyRequest{Id: "a", Width: 1})), errdefs.IsFailedPrecondition},
		"close no stdin":          {second(s.CloseIO(t.Context(), &taskpb.CloseIORequest{Id: "a", Stdin: true})), func(err error) bool { return err == nil }},
		"pause before start":      {second(s.Pause(t.Context(), &taskpb.ProcessRequest{Id: "a"})), errdefs.IsFailedPrecondition},
		"resume before start":     {second(s.Resume(t.Context(), &taskpb.ProcessRequest{Id: "a"})), errdefs.IsFailedPrecondition},
		"checkpoint":              {second(s.Checkpoint(t.Context(), &taskpb.CheckpointTaskRequest{Id: "a"})), errdefs.IsNotImplemented},
	} {
		if !c.is(c.err) {
			t.Errorf("%s: got %v", name, c.err)
		}
	}
}

func again(t *testing.T, s *service) error {
	b, mounts := podtest.Bundle(t, podtest.Spec("a", "ready"))
	return second(s.Create(t.Context(), &taskpb.CreateTaskRequest{Id: "a", Bundle: b.Path, Rootfs: rootfs(mounts)}))
}
