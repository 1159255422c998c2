package task

import (
	"context"

	taskAPI "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
)

// service is a task service, one for each kind of container.
type service = taskAPI.TTRPCTaskService

// choose picks the service that holds a container.
type choose func(id string) service

// method makes a ttrpc method of one of the service's: it decodes the request, finds the container's own
// service, and calls it.
func method[Q any, R any, P interface {
	*Q
	GetID() string
}](call func(service, context.Context, P) (R, error)) func(choose) ttrpc.Method {
	return func(of choose) ttrpc.Method {
		return func(ctx context.Context, decode func(any) error) (any, error) {
			q := P(new(Q))
			if err := decode(q); err != nil {
				return nil, err
			}
			return call(of(q.GetID()), ctx, q)
		}
	}
}

// methods are the calls of the task service. Their messages are the same on the wire in versions 2 and 3.
var methods = map[string]func(choose) ttrpc.Method{
	"State":      method(service.State),
	"Create":     method(service.Create),
	"Start":      method(service.Start),
	"Delete":     method(service.Delete),
	"Pids":       method(service.Pids),
	"Pause":      method(service.Pause),
	"Resume":     method(service.Resume),
	"Checkpoint": method(service.Checkpoint),
	"Kill":       method(service.Kill),
	"Exec":       method(service.Exec),
	"ResizePty":  method(service.ResizePty),
	"CloseIO":    method(service.CloseIO),
	"Update":     method(service.Update),
	"Wait":       method(service.Wait),
	"Stats":      method(service.Stats),
	"Connect":    method(service.Connect),
	"Shutdown":   method(service.Shutdown),
}

// description is what a ttrpc server registers for a task service.
func description(of choose) *ttrpc.ServiceDesc {
	d := &ttrpc.ServiceDesc{Methods: make(map[string]ttrpc.Method, len(methods))}
	for name, bind := range methods {
		d.Methods[name] = bind(of)
	}
	return d
}
