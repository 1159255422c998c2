package taskpb_test

import (
	"testing"

	sandbox "github.com/containerd/containerd/api/runtime/sandbox/v1"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hachi-run/hachi/shim/taskpb"
)

// What our messages say must be what containerd's say, in the same field, of the same type.
func TestFieldsAreContainerds(t *testing.T) {
	process := new(taskpb.ProcessRequest)
	of := new(taskpb.SandboxRequest)
	for _, pair := range [][2]proto.Message{
		{new(taskpb.CreateTaskRequest), new(task.CreateTaskRequest)},
		{new(taskpb.PidResponse), new(task.CreateTaskResponse)},
		{new(taskpb.PidResponse), new(task.StartResponse)},
		{new(taskpb.StateResponse), new(task.StateResponse)},
		{new(taskpb.DeleteResponse), new(task.DeleteResponse)},
		{new(taskpb.ExecProcessRequest), new(task.ExecProcessRequest)},
		{new(taskpb.ResizePtyRequest), new(task.ResizePtyRequest)},
		{new(taskpb.CloseIORequest), new(task.CloseIORequest)},
		{new(taskpb.KillRequest), new(task.KillRequest)},
		{new(taskpb.PidsResponse), new(task.PidsResponse)},
		{new(taskpb.CheckpointTaskRequest), new(task.CheckpointTaskRequest)},
		{new(taskpb.UpdateTaskRequest), new(task.UpdateTaskRequest)},
		{new(taskpb.WaitResponse), new(task.WaitResponse)},
		{new(taskpb.StatsResponse), new(task.StatsResponse)},
		{new(taskpb.ConnectResponse), new(task.ConnectResponse)},
		{new(taskpb.ShutdownRequest), new(task.ShutdownRequest)},
		{process, new(task.StateRequest)},
		{process, new(task.StartRequest)},
		{process, new(task.DeleteRequest)},
		{process, new(task.WaitRequest)},
		{process, new(task.PidsRequest)},
		{process, new(task.StatsRequest)},
		{process, new(task.PauseRequest)},
		{process, new(task.ResumeRequest)},
		{process, new(task.ConnectRequest)},

		{new(taskpb.CreateSandboxRequest), new(sandbox.CreateSandboxRequest)},
		{new(taskpb.StartSandboxResponse), new(sandbox.StartSandboxResponse)},
		{new(taskpb.PlatformResponse), new(sandbox.PlatformResponse)},
		{new(taskpb.WaitSandboxResponse), new(sandbox.WaitSandboxResponse)},
		{new(taskpb.SandboxStatusResponse), new(sandbox.SandboxStatusResponse)},
		{new(taskpb.SandboxMetricsResponse), new(sandbox.SandboxMetricsResponse)},
		{of, new(sandbox.StartSandboxRequest)},
		{of, new(sandbox.PlatformRequest)},
		{of, new(sandbox.StopSandboxRequest)},
		{of, new(sandbox.WaitSandboxRequest)},
		{of, new(sandbox.SandboxStatusRequest)},
		{of, new(sandbox.PingRequest)},
		{of, new(sandbox.ShutdownSandboxRequest)},
		{of, new(sandbox.SandboxMetricsRequest)},
		{of, new(sandbox.UpdateSandboxRequest)},
	} {
		ours, theirs := pair[0].ProtoReflect().Descriptor(), pair[1].ProtoReflect().Descriptor()
		fields := ours.Fields()
		for i := range fields.Len() {
			mine := fields.Get(i)
			// Where one of our messages stands for several, a call that names no exec has no such field.
			its := theirs.Fields().ByName(mine.Name())
			if its == nil && ours.Name() == "ProcessRequest" && mine.Name() == "exec_id" {
				continue
			}
			if its == nil || describe(its) != describe(mine) {
				t.Errorf("%s: ours is %v, containerd's in %s is %v", mine.FullName(), describe(mine), theirs.FullName(), its)
			}
		}
	}
}

// field is what both ends of the wire must agree on.
type field struct {
	number      protoreflect.FieldNumber
	kind        protoreflect.Kind
	cardinality protoreflect.Cardinality
	message     protoreflect.FullName
}

func describe(f protoreflect.FieldDescriptor) field {
	d := field{number: f.Number(), kind: f.Kind(), cardinality: f.Cardinality()}
	if f.Message() != nil && !f.IsMap() { // the entries of a map are named after its own message
		d.message = f.Message().FullName()
	}
	return d
}
