package runc

import (
	"context"
	"errors"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"

	"github.com/hachi-run/hachi/shim/call"
)

// intercept guards a call of the service, and gives its error a code.
func intercept(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	reply, err := call.Guard(info.FullMethod, func() (any, error) { return method(ctx, decode) })
	var coded interface{ GRPCStatus() *status.Status }
	if err == nil || errors.As(err, &coded) { // runc's own answers
		return reply, err
	}
	return nil, errgrpc.ToGRPC(err)
}
