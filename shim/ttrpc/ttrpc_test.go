package ttrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	library "github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	grpc "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/taskpb"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

const service = "containerd.task.v3.Task"

// dialEnv has this program connect to the socket that it names, and end with code 0 when the other side closes at once.
const dialEnv = "HACHI_TTRPC_DIAL"

func TestMain(m *testing.M) {
	if address := os.Getenv(dialEnv); address != "" {
		os.Exit(dialOnce(address))
	}
	os.Exit(testenv.Main(m))
}

func dialOnce(address string) int {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return 2
	}
	c := ttrpc.NewClient(conn)
	if err := c.Call(context.Background(), service, "State", &taskpb.ProcessRequest{Id: "web"}, new(taskpb.StateResponse)); !errdefs.IsUnavailable(err) {
		return 3
	}
	return 0
}

// answers is the service of these tests.
var answers = ttrpc.Service{
	"State": ttrpc.Unary(func(_ context.Context, q *taskpb.ProcessRequest) (*taskpb.StateResponse, error) {
		return &taskpb.StateResponse{Id: q.Id, ExecId: q.ExecId}, nil
	}),
	"Wait": ttrpc.Unary(func(ctx context.Context, _ *taskpb.ProcessRequest) (*taskpb.WaitResponse, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}),
	"Kill": ttrpc.Unary(func(_ context.Context, q *taskpb.KillRequest) (*taskpb.Empty, error) {
		return nil, fmt.Errorf("kill %s: %w", q.Id, errdefs.ErrNotFound)
	}),
	"Stats": ttrpc.Unary(func(context.Context, *taskpb.ProcessRequest) (*taskpb.StatsResponse, error) {
		return &taskpb.StatsResponse{Stats: &taskpb.Any{Value: make([]byte, 5<<20)}}, nil
	}),
	"Exec": ttrpc.Unary(func(_ context.Context, q *taskpb.ExecProcessRequest) (*taskpb.ExecProcessRequest, error) {
		return q, nil
	}),
}

// serve serves on a new socket, for as long as the test runs.
func serve(t *testing.T, i ttrpc.Interceptor) (*ttrpc.Server, string) {
	t.Helper()
	if i == nil {
		i = func(_ string, call func() (ttrpc.Message, error)) (ttrpc.Message, error) { return call() }
	}
	s := ttrpc.NewServer(i)
	s.Register(service, answers)
	address := filepath.Join(testenv.ShortDir(t), "s")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, address
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// theirs is containerd's own client.
func theirs(t *testing.T, address string) task.TTRPCTaskService {
	t.Helper()
	c := library.NewClient(dial(t, address))
	t.Cleanup(func() { c.Close() })
	return task.NewTTRPCTaskClient(c)
}

func ours(t *testing.T, address string) *ttrpc.Client {
	t.Helper()
	c := ttrpc.NewClient(dial(t, address))
	t.Cleanup(func() { c.Close() })
	return c
}

func TestContainerdsClientIsServed(t *testing.T) {
	var names []string
	s, address := serve(t, func(name string, call func() (ttrpc.Message, error)) (ttrpc.Message, error) {
		names = append(names, name)
		return call()
	})
	c := theirs(t, address)
	got, err := c.State(t.Context(), &task.StateRequest{ID: "web", ExecID: "e"})
	if err != nil || got.ID != "web" || got.ExecID != "e" {
		t.Errorf("state: %v, %v", got, err)
	}
	_, err = c.Kill(t.Context(), &task.KillRequest{ID: "web"})
	if native := errgrpc.ToNative(err); !errdefs.IsNotFound(native) || !strings.Contains(native.Error(), "kill web: not found") {
		t.Errorf("kill: %v", native)
	}
	if _, err = c.Pause(t.Context(), &task.PauseRequest{ID: "web"}); grpc.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "Pause") {
		t.Errorf("a method that is not served: %v", err)
	}
	if len(names) != 2 || names[0] != "/"+service+"/State" {
		t.Errorf("the interceptor has seen %q", names)
	}
	s.Drain(time.Minute, 0)
}

// A caller that gives up, or goes, ends the call's context; a deadline goes along.
func TestCallsEndWithTheirCallers(t *testing.T) {
	ended := make(chan error, 1)
	_, address := serve(t, func(_ string, call func() (ttrpc.Message, error)) (ttrpc.Message, error) {
		m, err := call()
		ended <- err
		return m, err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := theirs(t, address).Wait(ctx, &task.WaitRequest{ID: "web"}); err == nil {
		t.Error("a call that never ends has an answer")
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call ended by %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ours(t, address).Call(ctx, service, "Wait", new(taskpb.ProcessRequest), new(taskpb.WaitResponse)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("our call ended by %v", err)
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("our call ended there by %v", err)
	}
	c := ttrpc.NewClient(dial(t, address))
	failed := make(chan error, 1)
	go func() {
		failed <- c.Call(context.Background(), service, "Wait", new(taskpb.ProcessRequest), new(taskpb.WaitResponse))
	}()
	time.Sleep(20 * time.Millisecond)
	c.Close()
	if err := <-failed; !errdefs.IsUnavailable(err) {
		t.Errorf("a call on a closed connection: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call of one that went ended by %v", err)
	}
	if err := c.Call(t.Context(), service, "State", new(taskpb.ProcessRequest), new(taskpb.StateResponse)); !errdefs.IsUnavailable(err) {
		t.Errorf("a call after Close: %v", err)
	}
}

// detailed is a service of containerd's package, whose errors have details.
type detailed struct{ task.TTRPCTaskService }

func (detailed) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	return &task.StateResponse{ID: r.ID, Bundle: strings.Repeat("b", 1<<20)}, nil
}

func (detailed) Kill(context.Context, *task.KillRequest) (*emptypb.Empty, error) {
	st, err := grpc.New(codes.FailedPrecondition, "no").WithDetails(&anypb.Any{TypeUrl: "x", Value: []byte("y")})
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

func TestContainerdsServerIsCalled(t *testing.T) {
	s, err := library.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	task.RegisterTTRPCTaskService(s, detailed{})
	address := filepath.Join(testenv.ShortDir(t), "s")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(context.Background(), l) })
	defer serving.Wait()
	defer s.Close()
	c := ours(t, address)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			reply := new(taskpb.StateResponse)
			if err := c.Call(t.Context(), service, "State", &taskpb.ProcessRequest{Id: fmt.Sprint(i)}, reply); err != nil || reply.Id != fmt.Sprint(i) || len(reply.Bundle) != 1<<20 {
				t.Errorf("call %d: %q, %v", i, reply.Id, err)
			}
		})
	}
	all.Wait()
	err = c.Call(t.Context(), service, "Kill", new(taskpb.KillRequest), new(taskpb.Empty))
	var e *status.Error
	if !errors.As(err, &e) || e.Code != status.FailedPrecondition || e.Message != "no" || len(e.Details) != 1 || string(e.Details[0].Value) == "" {
		t.Errorf("got %#v", err)
	}
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v is no failed precondition", err)
	}
}

func TestManyCallsOnManyConnections(t *testing.T) {
	s, address := serve(t, nil)
	var all sync.WaitGroup
	for range 8 {
		c := theirs(t, address)
		for i := range 100 {
			all.Go(func() {
				id := fmt.Sprint(i)
				if got, err := c.State(t.Context(), &task.StateRequest{ID: id}); err != nil || got.ID != id {
					t.Errorf("%s: %v, %v", id, got, err)
				}
			})
		}
	}
	all.Wait()
	s.Drain(time.Minute, 0)
}

// What is under way when the server drains is answered before it closes.
func TestDrainWaitsForAnswers(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	s, address := serve(t, func(_ string, call func() (ttrpc.Message, error)) (ttrpc.Message, error) {
		close(begun)
		<-goOn
		return call()
	})
	answered := make(chan error, 1)
	c := theirs(t, address)
	go func() {
		_, err := c.State(context.Background(), &task.StateRequest{ID: "web"})
		answered <- err
	}()
	<-begun
	begin := time.Now()
	s.Drain(50*time.Millisecond, 0)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("drain has waited %v for a call that was under way", took)
	}
	close(goOn)
	s.Drain(time.Minute, 20*time.Millisecond)
	s.Close()
	if err := <-answered; err != nil {
		t.Errorf("the call's answer was lost: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	_, address := serve(t, nil)
	c := ours(t, address)
	huge := &taskpb.ExecProcessRequest{Spec: &taskpb.Any{Value: make([]byte, 5<<20)}}
	if err := c.Call(t.Context(), service, "Exec", huge, huge); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a request above the limit: %v", err)
	}
	if err := c.Call(t.Context(), service, "Stats", new(taskpb.ProcessRequest), new(taskpb.StatsResponse)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("an answer above the limit: %v", err)
	}
	edge := &taskpb.ExecProcessRequest{Spec: &taskpb.Any{Value: make([]byte, 4<<20-100)}}
	if err := c.Call(t.Context(), service, "Exec", edge, new(taskpb.ExecProcessRequest)); err != nil {
		t.Errorf("a request below the limit: %v", err)
	}
	reply := new(taskpb.StateResponse)
	if err := c.Call(t.Context(), service, "State", &taskpb.ProcessRequest{Id: "web"}, reply); err != nil || reply.Id != "web" {
		t.Errorf("the connection does not go on: %v", err)
	}
}

// frame is a frame as it is on the wire.
func frame(stream uint32, kind byte, body string) []byte {
	n := len(body)
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream), kind, 0}, body...)
}

// A peer that does not keep to the protocol gets an answer that says so, and the connection goes on.
func TestBadFramesAreAnswered(t *testing.T) {
	request, err := (&ttrpc.Request{Service: service, Method: "State"}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		send []byte
		code status.Code
	}{
		"even stream":       {frame(2, 1, string(request)), status.InvalidArgument},
		"stream again":      {append(frame(3, 9, ""), frame(0, 1, string(request))...), status.InvalidArgument},
		"garbage":           {frame(1, 1, "\xff\xff"), status.InvalidArgument},
		"stream of data":    {frame(1, 3, "x"), status.InvalidArgument},
		"no such service":   {frame(1, 1, ""), status.Unimplemented},
		"above the limit":   {append([]byte{0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0}, make([]byte, 4<<20+1)...), status.ResourceExhausted},
		"malformed payload": {frame(1, 1, string(request)+"\x1a\x02\xff\xff"), status.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, nil)
			conn := dial(t, address)
			defer conn.Close()
			if _, err := conn.Write(c.send); err != nil {
				t.Fatal(err)
			}
			if got := read(t, conn); status.Code(got.GetStatus().GetCode()) != c.code || got.GetStatus().GetMessage() == "" {
				t.Errorf("got %v, want code %d", got.GetStatus(), c.code)
			}
			if _, err := conn.Write(frame(101, 1, string(request))); err != nil {
				t.Fatal(err)
			}
			if got := read(t, conn); got.GetStatus() != nil {
				t.Errorf("the next call: %v", got.GetStatus())
			}
		})
	}
}

// What a server must not send fails the call that it is about, and the connection goes on.
func TestBadAnswers(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(testenv.ShortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := [][]byte{
		frame(1, 3, "x"),
		append([]byte{0, 0x40, 0, 1, 0, 0, 0, 3, 2, 0}, make([]byte, 4<<20+1)...),
		frame(5, 2, "\xff\xff"),
		append(frame(99, 2, ""), frame(7, 2, "")...), // one that nobody waits for comes first
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for _, a := range answers {
			request := make([]byte, 4096)
			if _, err := conn.Read(request); err != nil {
				t.Error(err)
			}
			if _, err := conn.Write(a); err != nil {
				t.Error(err)
			}
		}
	})
	c := ours(t, l.Addr().String())
	defer c.Close()
	for i, is := range []func(error) bool{errdefs.IsInternal, errdefs.IsResourceExhausted, errdefs.IsInternal, func(err error) bool { return err == nil }} {
		if err := c.Call(t.Context(), service, "State", &taskpb.ProcessRequest{Id: "web"}, new(taskpb.StateResponse)); !is(err) {
			t.Errorf("answer %d: %v", i, err)
		}
	}
}

// protobuf refuses a whole message for one bad character.
func TestErrorsAreUTF8(t *testing.T) {
	_, address := serve(t, nil)
	err := ours(t, address).Call(t.Context(), service, "Kill", &taskpb.KillRequest{Id: "a\xffb"}, new(taskpb.Empty))
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "kill a\uFFFDb") {
		t.Errorf("got %q", err)
	}
}

// read reads a response.
func read(t *testing.T, conn net.Conn) *ttrpc.Response {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[0])<<24|int(head[1])<<16|int(head[2])<<8|int(head[3]))
	if _, err := io.ReadFull(conn, body); err != nil {
		t.Fatal(err)
	}
	r := new(ttrpc.Response)
	if err := r.UnmarshalVT(body); err != nil || head[8] != 2 {
		t.Fatalf("kind %d, %v", head[8], err)
	}
	return r
}

func TestOthersAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	_, address := serve(t, nil)
	for _, path := range []string{address, filepath.Dir(address)} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	// The test's program must be where others can execute it.
	program := filepath.Join(filepath.Dir(address), "dial")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []syscall.Credential{{Uid: 65534, Gid: 0}, {Uid: 0, Gid: 65534}} {
		cmd := exec.Command(program)
		cmd.Env = []string{dialEnv + "=" + address}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &id}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("user %d, group %d: %v: %s", id.Uid, id.Gid, err, out)
		}
	}
}

func FuzzServer(f *testing.F) {
	request, err := (&ttrpc.Request{Service: service, Method: "State", Payload: []byte("\x0a\x01a")}).MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame(1, 1, string(request)))
	f.Add(frame(1, 3, ""))
	f.Add(append(frame(1, 1, "x"), 0xff))
	f.Fuzz(func(t *testing.T, sent []byte) {
		_, address := serve(t, nil)
		conn := dial(t, address)
		defer conn.Close()
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.(*net.UnixConn).CloseWrite()
		}()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		var err error
		for b := make([]byte, 4096); err == nil; {
			_, err = conn.Read(b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the server neither answers nor closes")
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add(frame(1, 2, ""))
	f.Add(frame(1, 2, "\x0a\x04\x08\x05\x12\x00"))
	f.Add(frame(3, 2, "\x12"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		pair, err := net.Listen("unix", filepath.Join(testenv.ShortDir(t), "s"))
		if err != nil {
			t.Fatal(err)
		}
		defer pair.Close()
		go func() {
			conn, err := pair.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(answer)
			_ = conn.Close()
		}()
		c := ttrpc.NewClient(dial(t, pair.Addr().String()))
		defer c.Close()
		_ = c.Call(t.Context(), service, "State", new(taskpb.ProcessRequest), new(taskpb.StateResponse))
	})
}
