// Package runc is the process hachi-linux, which a pod's server starts for the pod's first Linux container: containerd's
// own runc task service, on a socket that only the server has. A pod of Wasm containers does without it.
package runc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	runc "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/event"
	"github.com/hachi-run/hachi/shim/taskpb"
)

// flushTimeout bounds the wait for a containerd that does not take the last events.
const flushTimeout = 5 * time.Second

// Serve answers the pod's server until that closes the connection, and then delivers the events that still wait, which
// go to containerd's ttrpc socket at address. Containers that run then are left alone, for containerd to delete.
func Serve(ctx context.Context, conn net.Conn, namespace, address string) error {
	// Containers' processes become ours when runc is gone.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	// Whatever is sent to the pod's processes, the server alone says when to end. Ignored signals would stay ignored in
	// the containers.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer reap()()
	queue := event.New(address, namespace)
	ctx, sd := shutdown.WithShutdown(namespaces.WithNamespace(ctx, namespace))
	inner, err := runc.NewTaskService(ctx, publisher{queue}, sd)
	if err != nil {
		return fmt.Errorf("start runc's service: %w", err)
	}
	s, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	task.RegisterTTRPCTaskService(s, service{inner})
	if err = s.Serve(ctx, newOnly(conn)); errors.Is(err, net.ErrClosed) {
		err = nil // the server's end of the connection
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	return errors.Join(err, s.Close(), queue.Close(flush))
}

// service is runc's, for the options that hachi's runtime class may have.
type service struct{ task.TTRPCTaskService }

// Create creates a container.
func (s service) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	o, err := Options(r.Options)
	if err != nil {
		return nil, err
	}
	r.Options = o
	return s.TTRPCTaskService.Create(ctx, r)
}

// Shutdown would end this process, which is the server's to do.
func (s service) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// publisher hands the service's events on. It is not the service's to close.
type publisher struct{ *event.Queue }

func (p publisher) Publish(_ context.Context, topic string, event events.Event) error {
	body, err := typeurl.MarshalAny(event)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return p.Send(topic, &taskpb.Any{TypeUrl: body.GetTypeUrl(), Value: body.GetValue()})
}

func (publisher) Close() error { return nil }

var _ shim.Publisher = publisher{}

// Remove cleans up after a container whose server died, with the bundle as working directory, and returns the
// DeleteResponse that containerd wants of it.
func Remove(ctx context.Context, namespace, id string) ([]byte, error) {
	defer reap()()
	status, err := manager.NewShimManager("io.containerd.hachi.v1").Stop(namespaces.WithNamespace(ctx, namespace), id)
	if err != nil {
		return nil, fmt.Errorf("delete container %s: %w", id, err)
	}
	return proto.Marshal(&task.DeleteResponse{
		Pid: uint32(status.Pid), ExitStatus: uint32(status.ExitStatus), ExitedAt: timestamppb.New(status.ExitedAt),
	})
}
