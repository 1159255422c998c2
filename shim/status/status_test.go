package status_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	grpc "google.golang.org/grpc/status"

	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/status/statuspb"
)

// Whatever an error is here, containerd must find it to be the same when only code and message have come over.
func TestCodesAreContainerds(t *testing.T) {
	for _, native := range []error{
		errdefs.ErrUnknown, errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrPermissionDenied,
		errdefs.ErrResourceExhausted, errdefs.ErrFailedPrecondition, errdefs.ErrAborted, errdefs.ErrOutOfRange,
		errdefs.ErrNotImplemented, errdefs.ErrInternal, errdefs.ErrUnavailable, errdefs.ErrDataLoss, errdefs.ErrUnauthenticated,
		context.Canceled, context.DeadlineExceeded,
	} {
		e := status.Of(fmt.Errorf("start web: %w", native))
		back := errgrpc.ToNative(grpc.Error(codes.Code(e.Code), e.Message))
		if !errors.Is(back, native) || e.Message != "start web: "+native.Error() {
			t.Errorf("%v became %v, and that %v", native, e, back)
		}
		if !errors.Is(e, native) {
			t.Errorf("%v with code %d is not %v", e, e.Code, native)
		}
	}
}

func TestOf(t *testing.T) {
	if e := status.Of(nil); e != nil {
		t.Errorf("no error became %v", e)
	}
	if e := status.Of(errors.New("plain")); e.Code != status.Unknown || e.Message != "plain" {
		t.Errorf("an error of no kind became %d %q", e.Code, e.Message)
	}
	came := &status.Error{Code: status.Aborted, Message: "b", Details: []*statuspb.Any{{TypeUrl: "x"}}}
	e := status.Of(fmt.Errorf("a: %w", came))
	if e.Code != status.Aborted || e.Message != "a: b" || len(e.Details) != 1 {
		t.Errorf("a wrapped error became %+v", e)
	}
	if e := (&status.Error{Code: 99, Message: "new"}); e.Unwrap() != nil {
		t.Errorf("an undefined code is %v", e.Unwrap())
	}
}
