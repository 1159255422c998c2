package task

import (
	"context"
	"reflect"
	"testing"

	containerd "github.com/containerd/containerd/api/runtime/task/v3"

	"github.com/hachi-run/hachi/shim/taskpb"
)

func TestEveryMethodOfTheTaskServiceIsServed(t *testing.T) {
	api := reflect.TypeFor[containerd.TTRPCTaskService]()
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
	Service
	killed string
}

func (s *spy) Kill(_ context.Context, r *taskpb.KillRequest) (*taskpb.Empty, error) {
	s.killed = r.Id
	return empty, nil
}

func TestCallsGoToTheirContainersService(t *testing.T) {
	services := map[string]*spy{"a": {}, "b": {}}
	d := description(func(id string) Service { return services[id] })
	request, err := (&taskpb.KillRequest{Id: "b"}).MarshalVT()
	if err == nil {
		_, err = d["Kill"](t.Context(), request)
	}
	if err != nil {
		t.Fatal(err)
	}
	if services["a"].killed != "" || services["b"].killed != "b" {
		t.Errorf("a got %q and b got %q", services["a"].killed, services["b"].killed)
	}
}
