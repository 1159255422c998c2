// Package call is what happens around every call that one of our processes serves by ttrpc.
package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"
)

// Intercept maps a call's error to its code, logs and times it, and turns a panic into an error: the process holds a
// whole pod.
func Intercept(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, call ttrpc.Method) (reply any, err error) {
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in a call", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s: internal error: %v: %w", info.FullMethod, p, errdefs.ErrInternal)
		}
		slog.Debug("call", "method", info.FullMethod, "took", time.Since(begin), "error", err)
		err = toGRPC(err)
	}()
	return call(ctx, decode)
}

// toGRPC leaves alone what has a code already, such as the answers of runc's service.
func toGRPC(err error) error {
	var coded interface{ GRPCStatus() *status.Status }
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return errgrpc.ToGRPC(err)
}
