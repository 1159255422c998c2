package task

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	taskAPI "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestEveryMethodOfTheTaskServiceIsServed(t *testing.T) {
	api := reflect.TypeFor[taskAPI.TTRPCTaskService]()
	for i := range api.NumMethod() {
		if methods[api.Method(i).Name] == nil {
			t.Errorf("%s is not served", api.Method(i).Name)
		}
	}
	if len(methods) != api.NumMethod() {
		t.Errorf("%d methods are served, the service has %d", len(methods), api.NumMethod())
	}
}

// spy answers Kill, and says whose it was.
type spy struct {
	taskAPI.TTRPCTaskService
	killed string
}

func (s *spy) Kill(_ context.Context, r *taskAPI.KillRequest) (*emptypb.Empty, error) {
	s.killed = r.ID
	return empty, nil
}

func TestCallsGoToTheirContainersService(t *testing.T) {
	services := map[string]*spy{"a": {}, "b": {}}
	d := description(func(id string) service { return services[id] })
	decode := func(v any) error { v.(*taskAPI.KillRequest).ID = "b"; return nil }
	if _, err := d.Methods["Kill"](t.Context(), decode); err != nil {
		t.Fatal(err)
	}
	if services["a"].killed != "" || services["b"].killed != "b" {
		t.Errorf("a got %q and b got %q", services["a"].killed, services["b"].killed)
	}
}

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
