package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hachi-run/hachi/shim/image/grpc"
	"github.com/hachi-run/hachi/shim/status"
)

// answerTime bounds a question to containerd when the caller sets no deadline.
const answerTime = 10 * time.Second

// The calls, of services in github.com/containerd/containerd/api/services. Their messages are those of package imagepb.
const (
	containersGet   = "containers.v1.Containers/Get"
	contentRead     = "content.v1.Content/Read"
	imagesGet       = "images.v1.Images/Get"
	imagesList      = "images.v1.Images/List"
	snapshotsRemove = "snapshots.v1.Snapshots/Remove"
	snapshotsView   = "snapshots.v1.Snapshots/View"
)

// client is the connection to containerd.
func (s *Source) client() *grpc.Client {
	s.once.Do(func() {
		s.grpc.Path = strings.TrimPrefix(s.Address, "unix://")
		s.grpc.Metadata = map[string]string{"containerd-namespace": s.Namespace}
	})
	return &s.grpc
}

// call asks containerd and gives each the messages of the reply; their bytes are valid until each returns. Errors are each's
// own, grpc.ErrClosed, or a *status.Error.
func (s *Source) call(ctx context.Context, method string, request interface{ MarshalVT() ([]byte, error) }, each func([]byte) error) error {
	raw, err := request.MarshalVT()
	if err != nil {
		return err
	}
	return s.client().Call(ctx, "containerd.services."+method, raw, each)
}

// unary makes a call whose reply is one message.
func (s *Source) unary(ctx context.Context, method string, request interface{ MarshalVT() ([]byte, error) }, reply interface{ UnmarshalVT([]byte) error }) error {
	return s.call(ctx, method, request, func(raw []byte) error { return understood(reply.UnmarshalVT(raw)) })
}

// understood is the error of a reply that was read, as a status.
func understood(err error) error {
	if err != nil {
		return status.Errorf(status.Internal, "malformed reply: %v", err)
	}
	return nil
}

// ask makes calls to containerd. A connection that broke under a call, as a restart of containerd
// breaks it, is worth another try: all calls here only read.
func (s *Source) ask(ctx context.Context, calls func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for try := 0; ; try++ {
		err := calls(ctx)
		var remote *status.Error
		if !errors.As(err, &remote) {
			return err
		}
		switch code := remote.Code; {
		case code == status.Unavailable && try < 2 && ctx.Err() == nil:
			continue
		case code == status.Unavailable || code == status.DeadlineExceeded:
			return fmt.Errorf("containerd at %s: %w (is containerd running?)", s.Address, err)
		}
		return err
	}
}
