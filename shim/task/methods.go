package task

import (
	"context"

	"github.com/hachi-run/hachi/shim/taskpb"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

// Service is a task service, one for each kind of container.
type Service interface {
	State(context.Context, *taskpb.ProcessRequest) (*taskpb.StateResponse, error)
	Create(context.Context, *taskpb.CreateTaskRequest) (*taskpb.PidResponse, error)
	Start(context.Context, *taskpb.ProcessRequest) (*taskpb.PidResponse, error)
	Delete(context.Context, *taskpb.ProcessRequest) (*taskpb.DeleteResponse, error)
	Pids(context.Context, *taskpb.ProcessRequest) (*taskpb.PidsResponse, error)
	Pause(context.Context, *taskpb.ProcessRequest) (*taskpb.Empty, error)
	Resume(context.Context, *taskpb.ProcessRequest) (*taskpb.Empty, error)
	Checkpoint(context.Context, *taskpb.CheckpointTaskRequest) (*taskpb.Empty, error)
	Kill(context.Context, *taskpb.KillRequest) (*taskpb.Empty, error)
	Exec(context.Context, *taskpb.ExecProcessRequest) (*taskpb.Empty, error)
	ResizePty(context.Context, *taskpb.ResizePtyRequest) (*taskpb.Empty, error)
	CloseIO(context.Context, *taskpb.CloseIORequest) (*taskpb.Empty, error)
	Update(context.Context, *taskpb.UpdateTaskRequest) (*taskpb.Empty, error)
	Wait(context.Context, *taskpb.ProcessRequest) (*taskpb.WaitResponse, error)
	Stats(context.Context, *taskpb.ProcessRequest) (*taskpb.StatsResponse, error)
	Connect(context.Context, *taskpb.ProcessRequest) (*taskpb.ConnectResponse, error)
	Shutdown(context.Context, *taskpb.ShutdownRequest) (*taskpb.Empty, error)
}

// choose picks the service that holds a container.
type choose func(id string) Service

// method makes a ttrpc method of one of the service's: it finds the container's own service, and calls it.
func method[Q any, R ttrpc.Message, P interface {
	*Q
	ttrpc.Message
	GetId() string
}](call func(Service, context.Context, P) (R, error)) func(choose) ttrpc.Method {
	return func(of choose) ttrpc.Method {
		return ttrpc.Unary(func(ctx context.Context, q P) (R, error) { return call(of(q.GetId()), ctx, q) })
	}
}

// methods are the calls of the task service. Their messages are the same on the wire in versions 2 and 3.
var methods = map[string]func(choose) ttrpc.Method{
	"State":      method(Service.State),
	"Create":     method(Service.Create),
	"Start":      method(Service.Start),
	"Delete":     method(Service.Delete),
	"Pids":       method(Service.Pids),
	"Pause":      method(Service.Pause),
	"Resume":     method(Service.Resume),
	"Checkpoint": method(Service.Checkpoint),
	"Kill":       method(Service.Kill),
	"Exec":       method(Service.Exec),
	"ResizePty":  method(Service.ResizePty),
	"CloseIO":    method(Service.CloseIO),
	"Update":     method(Service.Update),
	"Wait":       method(Service.Wait),
	"Stats":      method(Service.Stats),
	"Connect":    method(Service.Connect),
	"Shutdown":   method(Service.Shutdown),
}

// description is what a ttrpc server registers for a task service.
func description(of choose) ttrpc.Service {
	d := make(ttrpc.Service, len(methods))
	for name, bind := range methods {
		d[name] = bind(of)
	}
	return d
}
