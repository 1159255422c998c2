package taskpb_test

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	events "github.com/containerd/containerd/api/events"
	sandbox "github.com/containerd/containerd/api/runtime/sandbox/v1"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	forward "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/shim/taskpb"
)

// message is one of ours.
type message interface {
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
}

// theirs is what each of our messages stands for on the wire.
var theirs = map[message][]proto.Message{
	new(taskpb.Any):         {new(anypb.Any)},
	new(taskpb.Timestamp):   {new(timestamppb.Timestamp)},
	new(taskpb.Empty):       {new(emptypb.Empty)},
	new(taskpb.Mount):       {new(types.Mount)},
	new(taskpb.ProcessInfo): {new(tasktypes.ProcessInfo)},
	new(taskpb.Platform):    {new(types.Platform)},
	new(taskpb.Metric):      {new(types.Metric)},

	new(taskpb.CreateTaskRequest):     {new(task.CreateTaskRequest)},
	new(taskpb.PidResponse):           {new(task.CreateTaskResponse), new(task.StartResponse)},
	new(taskpb.StateResponse):         {new(task.StateResponse)},
	new(taskpb.DeleteResponse):        {new(task.DeleteResponse)},
	new(taskpb.ExecProcessRequest):    {new(task.ExecProcessRequest)},
	new(taskpb.ResizePtyRequest):      {new(task.ResizePtyRequest)},
	new(taskpb.CloseIORequest):        {new(task.CloseIORequest)},
	new(taskpb.KillRequest):           {new(task.KillRequest)},
	new(taskpb.PidsResponse):          {new(task.PidsResponse)},
	new(taskpb.CheckpointTaskRequest): {new(task.CheckpointTaskRequest)},
	new(taskpb.UpdateTaskRequest):     {new(task.UpdateTaskRequest)},
	new(taskpb.WaitResponse):          {new(task.WaitResponse)},
	new(taskpb.StatsResponse):         {new(task.StatsResponse)},
	new(taskpb.ConnectResponse):       {new(task.ConnectResponse)},
	new(taskpb.ShutdownRequest):       {new(task.ShutdownRequest)},
	new(taskpb.ProcessRequest): {
		new(task.StateRequest), new(task.StartRequest), new(task.DeleteRequest), new(task.WaitRequest), new(task.PidsRequest),
		new(task.StatsRequest), new(task.PauseRequest), new(task.ResumeRequest), new(task.ConnectRequest),
	},

	new(taskpb.CreateSandboxRequest):   {new(sandbox.CreateSandboxRequest)},
	new(taskpb.StartSandboxResponse):   {new(sandbox.StartSandboxResponse)},
	new(taskpb.PlatformResponse):       {new(sandbox.PlatformResponse)},
	new(taskpb.WaitSandboxResponse):    {new(sandbox.WaitSandboxResponse)},
	new(taskpb.SandboxStatusResponse):  {new(sandbox.SandboxStatusResponse)},
	new(taskpb.SandboxMetricsResponse): {new(sandbox.SandboxMetricsResponse)},
	new(taskpb.SandboxRequest): {
		new(sandbox.StartSandboxRequest), new(sandbox.PlatformRequest), new(sandbox.StopSandboxRequest), new(sandbox.WaitSandboxRequest),
		new(sandbox.SandboxStatusRequest), new(sandbox.PingRequest), new(sandbox.ShutdownSandboxRequest),
		new(sandbox.SandboxMetricsRequest), new(sandbox.UpdateSandboxRequest),
	},

	new(taskpb.ForwardRequest):  {new(forward.ForwardRequest)},
	new(taskpb.Envelope):        {new(types.Envelope)},
	new(taskpb.TaskCreate):      {new(events.TaskCreate)},
	new(taskpb.TaskIO):          {new(events.TaskIO)},
	new(taskpb.TaskStart):       {new(events.TaskStart)},
	new(taskpb.TaskDelete):      {new(events.TaskDelete)},
	new(taskpb.TaskExit):        {new(events.TaskExit)},
	new(taskpb.TaskOOM):         {new(events.TaskOOM)},
	new(taskpb.TaskExecAdded):   {new(events.TaskExecAdded)},
	new(taskpb.TaskExecStarted): {new(events.TaskExecStarted)},
	new(taskpb.TaskPaused):      {new(events.TaskPaused)},
	new(taskpb.TaskResumed):     {new(events.TaskResumed)},

	new(taskpb.PodSandboxConfig):            {new(cri.PodSandboxConfig)},
	new(taskpb.DNSConfig):                   {new(cri.DNSConfig)},
	new(taskpb.LinuxPodSandboxConfig):       {new(cri.LinuxPodSandboxConfig)},
	new(taskpb.LinuxSandboxSecurityContext): {new(cri.LinuxSandboxSecurityContext)},
	new(taskpb.NamespaceOption):             {new(cri.NamespaceOption)},
}

// What our messages say must be what theirs say, in the same field, of the same type.
func TestFieldsAreTheSame(t *testing.T) {
	for ours, all := range theirs {
		of := reflect.TypeOf(ours).Elem()
		for _, their := range all {
			for i := range of.NumField() {
				f := of.Field(i)
				if !f.IsExported() {
					continue
				}
				// bytes,1,opt,name=sandbox_id,json=sandboxId,proto3
				tag := strings.Split(f.Tag.Get("protobuf"), ",")
				name := strings.TrimPrefix(tag[3], "name=")
				its := their.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
				// Where one of our messages stands for several, a call that names no exec has no such field.
				if its == nil && of == reflect.TypeFor[taskpb.ProcessRequest]() && name == "exec_id" {
					continue
				}
				if its == nil {
					t.Errorf("%s.%s: %s has no such field", of, name, their.ProtoReflect().Descriptor().FullName())
					continue
				}
				if number := its.Number(); tag[1] != numeral(number) || !sameType(f.Type, its) {
					t.Errorf("%s.%s is %s of type %s; theirs is %d, %s %s", of, name, tag[1], f.Type, number, its.Cardinality(), its.Kind())
				}
			}
		}
	}
}

func numeral(n protoreflect.FieldNumber) string {
	return strconv.Itoa(int(n))
}

// sameType tells whether a field of Go's type is encoded as theirs.
func sameType(ours reflect.Type, their protoreflect.FieldDescriptor) bool {
	if their.IsMap() {
		return ours == reflect.TypeFor[map[string]string]() && their.MapKey().Kind() == protoreflect.StringKind && their.MapValue().Kind() == protoreflect.StringKind
	}
	if their.IsList() {
		if ours.Kind() != reflect.Slice {
			return false
		}
		ours = ours.Elem()
	}
	switch their.Kind() {
	case protoreflect.BoolKind:
		return ours.Kind() == reflect.Bool
	case protoreflect.StringKind:
		return ours.Kind() == reflect.String
	case protoreflect.BytesKind:
		return ours == reflect.TypeFor[[]byte]()
	case protoreflect.Uint32Kind:
		return ours.Kind() == reflect.Uint32
	case protoreflect.Int32Kind:
		return ours.Kind() == reflect.Int32
	case protoreflect.Int64Kind:
		return ours.Kind() == reflect.Int64
	case protoreflect.EnumKind:
		return ours.Kind() == reflect.Int32 && ours.Name() == string(their.Enum().Name())
	case protoreflect.MessageKind:
		return ours.Kind() == reflect.Pointer && ours.Elem().Name() == string(their.Message().Name())
	}
	return false
}

// Whatever they write we read, and what we write they read: nothing is lost on the way.
func TestMessagesGoThere(t *testing.T) {
	for ours, all := range theirs {
		for _, their := range all {
			fill(their.ProtoReflect(), 3)
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(their)
			if err != nil {
				t.Fatal(err)
			}
			mine := reflect.New(reflect.TypeOf(ours).Elem()).Interface().(message)
			if err := mine.UnmarshalVT(wire); err != nil {
				t.Errorf("%T: cannot read %T: %v", mine, their, err)
				continue
			}
			again, err := mine.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			back := their.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(again, back); err != nil || !proto.Equal(their, back) {
				t.Errorf("%T does not come back from %T: %v\n%v\n%v", their, mine, err, their, back)
			}
			for cut := range len(wire) { // a part of a message is read, or refused
				_ = reflect.New(reflect.TypeOf(ours).Elem()).Interface().(message).UnmarshalVT(wire[:cut])
			}
		}
	}
}

// fill sets every field of a message, and of those in it down to that depth.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.ContainingOneof() != nil:
		case f.IsMap():
			if f.MapKey().Kind() == protoreflect.StringKind && f.MapValue().Kind() == protoreflect.StringKind {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString("key").MapKey(), protoreflect.ValueOfString("value"))
			}
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			if depth > 0 {
				fill(m.Mutable(f).List().AppendMutable().Message(), depth-1)
			}
		case f.IsList():
			m.Mutable(f).List().Append(scalar(f))
			m.Mutable(f).List().Append(scalar(f))
		case f.Kind() == protoreflect.MessageKind:
			if depth > 0 {
				fill(m.Mutable(f).Message(), depth-1)
			}
		default:
			m.Set(f, scalar(f))
		}
	}
}

// scalar is a value that tells fields apart.
func scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	n := int64(f.Number())
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("the " + string(f.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.Name()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(1000 + n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(1<<40 + n))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(-n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-n << 40)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	}
	return f.Default()
}

func TestTimeIsTheSame(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 7), time.Date(2026, 11, 30, 12, 0, 0, 999999999, time.UTC)} {
		mine, err := taskpb.Time(at).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		their, err := proto.Marshal(timestamppb.New(at))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mine, their) {
			t.Errorf("%v: %x, and protobuf has %x", at, mine, their)
		}
	}
}

func TestPack(t *testing.T) {
	packed, err := taskpb.Pack("containerd.events.TaskOOM", &taskpb.TaskOOM{ContainerId: "web"})
	if err != nil {
		t.Fatal(err)
	}
	m := new(events.TaskOOM)
	if err := proto.Unmarshal(packed.Value, m); err != nil || m.ContainerID != "web" || packed.TypeUrl != string(m.ProtoReflect().Descriptor().FullName()) {
		t.Errorf("got %v, %v", packed, err)
	}
}
