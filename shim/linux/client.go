package linux

import (
	"context"
	"net"

	"github.com/hachi-run/hachi/shim/taskpb"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

// client calls the task service of package runc. Its errors carry that service's codes.
type client struct{ c *ttrpc.Client }

func newClient(conn net.Conn) client { return client{ttrpc.NewClient(conn)} }

func (c client) close() error { return c.c.Close() }

// ask makes one call, whose answer is an R.
func ask[R any, P interface {
	*R
	ttrpc.Message
}](ctx context.Context, c client, method string, q ttrpc.Message) (P, error) {
	r := P(new(R))
	if err := c.c.Call(ctx, "containerd.task.v3.Task", method, q, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (c client) State(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.StateResponse, error) {
	return ask[taskpb.StateResponse](ctx, c, "State", q)
}

func (c client) Create(ctx context.Context, q *taskpb.CreateTaskRequest) (*taskpb.PidResponse, error) {
	return ask[taskpb.PidResponse](ctx, c, "Create", q)
}

func (c client) Start(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.PidResponse, error) {
	return ask[taskpb.PidResponse](ctx, c, "Start", q)
}

func (c client) Delete(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.DeleteResponse, error) {
	return ask[taskpb.DeleteResponse](ctx, c, "Delete", q)
}

func (c client) Pids(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.PidsResponse, error) {
	return ask[taskpb.PidsResponse](ctx, c, "Pids", q)
}

func (c client) Pause(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Pause", q)
}

func (c client) Resume(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Resume", q)
}

func (c client) Checkpoint(ctx context.Context, q *taskpb.CheckpointTaskRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Checkpoint", q)
}

func (c client) Kill(ctx context.Context, q *taskpb.KillRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Kill", q)
}

func (c client) Exec(ctx context.Context, q *taskpb.ExecProcessRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Exec", q)
}

func (c client) ResizePty(ctx context.Context, q *taskpb.ResizePtyRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "ResizePty", q)
}

func (c client) CloseIO(ctx context.Context, q *taskpb.CloseIORequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "CloseIO", q)
}

func (c client) Update(ctx context.Context, q *taskpb.UpdateTaskRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Update", q)
}

func (c client) Wait(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.WaitResponse, error) {
	return ask[taskpb.WaitResponse](ctx, c, "Wait", q)
}

func (c client) Stats(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.StatsResponse, error) {
	return ask[taskpb.StatsResponse](ctx, c, "Stats", q)
}

func (c client) Connect(ctx context.Context, q *taskpb.ProcessRequest) (*taskpb.ConnectResponse, error) {
	return ask[taskpb.ConnectResponse](ctx, c, "Connect", q)
}

func (c client) Shutdown(ctx context.Context, q *taskpb.ShutdownRequest) (*taskpb.Empty, error) {
	return ask[taskpb.Empty](ctx, c, "Shutdown", q)
}
