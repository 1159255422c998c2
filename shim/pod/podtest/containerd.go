package podtest

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/containerd/containerd/api/events" // typeurl then knows them
	"github.com/containerd/containerd/api/services/containers/v1"
	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/shim/taskpb"
)

// Containerd is as much of a containerd as a pod's server needs: it knows no container, so that a program is what its
// root file system says, and it takes events.
type Containerd struct {
	// Address is its gRPC socket; the one for events is Address and ".ttrpc".
	Address string
	Recorder

	events *ttrpc.Server
}

// NewContainerd serves until the test ends.
func NewContainerd(t testing.TB) *Containerd {
	t.Helper()
	c := &Containerd{Address: filepath.Join(testenv.ShortDir(t), "c.sock")}
	l, err := net.Listen("unix", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	containers.RegisterContainersServer(g, nobody{})
	el, err := net.Listen("unix", c.Address+".ttrpc")
	if err != nil {
		t.Fatal(err)
	}
	e, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	c.events = e
	events.RegisterTTRPCEventsService(e, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(l) })
	serving.Go(func() { _ = e.Serve(context.Background(), el) })
	t.Cleanup(func() {
		g.Stop()
		c.Unplug(t)
		serving.Wait()
	})
	return c
}

// Unplug ends the service for events.
func (c *Containerd) Unplug(t testing.TB) {
	t.Helper()
	if err := c.events.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

type nobody struct {
	containers.UnimplementedContainersServer
}

func (nobody) Get(_ context.Context, r *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	return nil, status.Errorf(codes.NotFound, "container %s", r.ID)
}

// Forward takes an event from a server.
func (c *Containerd) Forward(_ context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	e := r.Envelope
	return &emptypb.Empty{}, c.Send(e.Topic, &taskpb.Any{TypeUrl: e.Event.GetTypeUrl(), Value: e.Event.GetValue()})
}

// Recorder keeps events in the order of their coming. The zero value is empty.
type Recorder struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

// Send records "topic container" and, when the event is of an exec, its id: "exit web e1". containerd must know the event.
func (r *Recorder) Send(topic string, body *taskpb.Any) error {
	event, err := typeurl.UnmarshalAny(body)
	if err != nil {
		return err
	}
	line := strings.TrimPrefix(topic, "/tasks/")
	container := ""
	if e, ok := event.(interface{ GetContainerID() string }); ok {
		container = e.GetContainerID()
		line += " " + container
	}
	if e, ok := event.(interface{ GetExecID() string }); ok {
		line += " " + e.GetExecID()
	} else if e, ok := event.(interface{ GetID() string }); ok && e.GetID() != container && e.GetID() != "" {
		line += " " + e.GetID()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// Lines are the events so far.
func (r *Recorder) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// Await waits until an event has come.
func (r *Recorder) Await(t testing.TB, line string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, l := range r.Lines() {
			if l == line {
				return
			}
		}
	}
	t.Fatalf("no event %q; there are %q", line, r.Lines())
}
