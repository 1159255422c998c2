package call

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestInterceptMapsErrors(t *testing.T) {
	call := func(err error) error {
		_, got := Intercept(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, func(any) error) (any, error) { return nil, err })
		return got
	}
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{nil, codes.OK},
		{fmt.Errorf("a: %w", errdefs.ErrNotFound), codes.NotFound},
		{fmt.Errorf("a: %w", errdefs.ErrFailedPrecondition), codes.FailedPrecondition},
		{fmt.Errorf("a: %w", errdefs.ErrNotImplemented), codes.Unimplemented},
		{status.Error(codes.AlreadyExists, "b"), codes.AlreadyExists},
		{fmt.Errorf("wrapped: %w", status.Error(codes.NotFound, "b")), codes.NotFound},
		{errors.New("plain"), codes.Unknown},
	} {
		if got := call(c.err); status.Code(got) != c.code {
			t.Errorf("%v became %v, want %v", c.err, got, c.code)
		}
	}
}

func TestInterceptSurvivesAPanic(t *testing.T) {
	_, err := Intercept(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, func(any) error) (any, error) { panic("oops") })
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "oops") {
		t.Errorf("got %v, want Internal with the panic's words", err)
	}
}
