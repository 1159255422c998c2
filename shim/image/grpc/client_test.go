package grpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/google/go-cmp/cmp"
	google "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	googlestatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/status/statuspb"
)

// server is Google's gRPC server behind a client of ours.
type server struct {
	*google.Server
	client *Client
	taken  atomic.Int32 // connections
}

// listener counts connections.
type listener struct {
	net.Listener
	taken *atomic.Int32
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.taken.Add(1)
	}
	return c, err
}

// serve answers every method with handle.
func serve(t testing.TB, handle func(google.ServerStream) error, options ...google.ServerOption) *server {
	t.Helper()
	s := &server{client: &Client{Path: filepath.Join(t.TempDir(), "g.sock")}}
	s.start(t, handle, options...)
	t.Cleanup(func() {
		if err := errors.Join(s.client.Close(), s.client.Close()); err != nil {
			t.Error(err)
		}
		s.Stop()
	})
	return s
}

func (s *server) start(t testing.TB, handle func(google.ServerStream) error, options ...google.ServerOption) {
	t.Helper()
	os.Remove(s.client.Path)
	l, err := net.Listen("unix", s.client.Path)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = google.NewServer(append(options, google.UnknownServiceHandler(func(_ any, stream google.ServerStream) error { return handle(stream) }))...)
	go s.Serve(listener{l, &s.taken}) // ends with Stop
}

// ask makes a call and returns its replies.
func ask(ctx context.Context, c *Client, request []byte) (replies [][]byte, err error) {
	raw, err := proto.Marshal(wrapperspb.Bytes(request))
	if err != nil {
		return nil, err
	}
	err = c.Call(ctx, "test.Service/Method", raw, func(m []byte) error {
		var v wrapperspb.BytesValue
		err := proto.Unmarshal(m, &v)
		replies = append(replies, v.Value)
		return err
	})
	return replies, err
}

func echo(stream google.ServerStream) error {
	var v wrapperspb.BytesValue
	if err := stream.RecvMsg(&v); err != nil {
		return err
	}
	return stream.SendMsg(&v)
}

func TestManyCallsAtOnce(t *testing.T) {
	for _, limit := range []uint32{0, 1, 7} {
		t.Run(fmt.Sprintf("%d at a time", limit), func(t *testing.T) {
			var now, most atomic.Int32
			s := serve(t, func(stream google.ServerStream) error {
				defer now.Add(-1)
				for n := now.Add(1); ; {
					if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
						return echo(stream)
					}
				}
			}, google.MaxConcurrentStreams(limit))
			// Its settings must be here before the limit is tried.
			if _, err := ask(t.Context(), s.client, nil); err != nil {
				t.Fatal(err)
			}
			var wait sync.WaitGroup
			for k := range 200 {
				wait.Go(func() {
					want := bytes.Repeat([]byte{byte(k)}, k*100)
					got, err := ask(t.Context(), s.client, want)
					if err != nil || len(got) != 1 || !bytes.Equal(got[0], want) {
						t.Errorf("call %d: %d replies, %v", k, len(got), err)
					}
				})
			}
			wait.Wait()
			if n := s.taken.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			if m := most.Load(); limit > 0 && m > int32(limit) {
				t.Errorf("%d calls at once, want %d", m, limit)
			}
		})
	}
}

// A server is held back by a call that does not read, and other calls are not.
func TestReceiveWindow(t *testing.T) {
	const size, count = 1 << 20, 24
	var sent atomic.Int32
	s := serve(t, func(stream google.ServerStream) error {
		var v wrapperspb.BytesValue
		if err := stream.RecvMsg(&v); err != nil {
			return err
		}
		if len(v.Value) > 0 {
			return stream.SendMsg(&v)
		}
		for k := range count {
			if err := stream.SendMsg(wrapperspb.Bytes(bytes.Repeat([]byte{byte(k)}, size))); err != nil {
				return err
			}
			sent.Add(1)
		}
		return nil
	})
	got := 0
	err := s.client.Call(t.Context(), "test.Service/Method", nil, func(m []byte) error {
		if got == 0 {
			time.Sleep(50 * time.Millisecond)
			if n := sent.Load(); n > 4 { // some are in Google's buffers
				t.Errorf("the server sent %d messages while one was read", n)
			}
			if other, err := ask(t.Context(), s.client, []byte("other")); err != nil || len(other) != 1 {
				t.Errorf("another call: %q, %v", other, err)
			}
		}
		if len(m) < size || m[len(m)-1] != byte(got) || m[len(m)-size] != byte(got) {
			t.Errorf("message %d has %d bytes and begins with %x", got, len(m), m[:8])
		}
		got++
		return nil
	})
	if err != nil || got != count {
		t.Errorf("got %d messages, %v; want %d", got, err, count)
	}
}

func TestSendWindow(t *testing.T) {
	for _, window := range []int32{0, 1 << 17, 4 << 20} {
		s := serve(t, echo, google.InitialWindowSize(window), google.InitialConnWindowSize(window), google.StaticStreamWindowSize(max(1<<16, window)))
		var wait sync.WaitGroup
		for k := range 4 {
			wait.Go(func() {
				want := bytes.Repeat([]byte{byte(k), 1, 2, 3}, 1<<18)
				got, err := ask(t.Context(), s.client, want)
				if err != nil || len(got) != 1 || !bytes.Equal(got[0], want) {
					t.Errorf("window %d: %d replies, %v", window, len(got), err)
				}
			})
		}
		wait.Wait()
	}
}

// A server that has read enough of a request answers without the rest of it.
func TestAnswerBeforeTheRequestEnds(t *testing.T) {
	s := serve(t, echo, google.MaxRecvMsgSize(10))
	if _, err := ask(t.Context(), s.client, make([]byte, 4<<20)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v, want ResourceExhausted", err)
	}
	if _, err := ask(t.Context(), s.client, nil); err != nil || s.taken.Load() != 1 {
		t.Errorf("the next call, on connection %d: %v", s.taken.Load(), err)
	}
}

func TestRequestSaysWhatItMust(t *testing.T) {
	s := serve(t, func(stream google.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		end, _ := stream.Context().Deadline()
		method, _ := google.MethodFromServerStream(stream)
		return googlestatus.Errorf(codes.Aborted, "%s %v %v", method, md.Get("containerd-namespace"), time.Until(end).Round(time.Minute))
	})
	s.client.Metadata = map[string]string{"containerd-namespace": "ns"}
	for _, left := range []time.Duration{time.Minute, 5000 * time.Hour} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		_, err := ask(ctx, s.client, nil)
		cancel()
		want := fmt.Sprintf("/test.Service/Method [ns] %v", min(left, maxTimeout).Round(time.Minute))
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The errors of a server of containerd's, with their details, arrive as Google's client gives them.
func TestErrorsOfContainerd(t *testing.T) {
	for _, sent := range []error{
		errdefs.ErrNotFound,
		fmt.Errorf("image \"ü%%\n\": %w", errdefs.ErrNotFound),
		fmt.Errorf("%w: and %w", errdefs.ErrFailedPrecondition, errdefs.ErrNotFound),
		errors.Join(errdefs.ErrNotFound, errdefs.ErrDataLoss),
		errors.New("plain"),
		errors.New(strings.Repeat("long ", 1000)),
	} {
		s := serve(t, func(google.ServerStream) error { return errgrpc.ToGRPC(sent) })
		_, err := ask(t.Context(), s.client, nil)
		var got *status.Error
		if !errors.As(err, &got) {
			t.Errorf("%v: got %v", sent, err)
			continue
		}
		st := googlestatus.Convert(errgrpc.ToGRPC(sent)).Proto()
		want := &status.Error{Code: status.Code(st.Code), Message: st.Message}
		for _, d := range st.Details {
			want.Details = append(want.Details, &statuspb.Any{TypeUrl: d.TypeUrl, Value: d.Value})
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(statuspb.Any{})); diff != "" {
			t.Errorf("%v: %s", sent, diff)
		}
	}
}

func TestErrorOfTheCaller(t *testing.T) {
	s := serve(t, echo)
	full := errors.New("disk full")
	if err := s.client.Call(t.Context(), "a/b", nil, func([]byte) error { return full }); err != full {
		t.Errorf("got %v", err)
	}
}

// endless sends until its call ends and then says so.
func endless(ended chan<- error) func(google.ServerStream) error {
	return func(stream google.ServerStream) error {
		for {
			if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, 1000))); err != nil {
				<-stream.Context().Done()
				ended <- stream.Context().Err()
				return err
			}
		}
	}
}

func TestCancelWhileRepliesCome(t *testing.T) {
	ended := make(chan error, 2)
	s := serve(t, endless(ended))
	for range 2 { // on the same connection
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := s.client.Call(ctx, "a/b", nil, func([]byte) error {
			if n++; n == 1000 {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the server's call ended with %v", err)
		}
	}
	if n := s.taken.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestDeadline(t *testing.T) {
	s := serve(t, func(stream google.ServerStream) error {
		<-stream.Context().Done()
		return googlestatus.FromContextError(stream.Context().Err()).Err()
	})
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := ask(ctx, s.client, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
	}
}

func TestCloseEndsCalls(t *testing.T) {
	entered := make(chan struct{})
	s := serve(t, func(stream google.ServerStream) error {
		close(entered)
		<-stream.Context().Done()
		return nil
	})
	failed := make(chan error)
	go func() {
		_, err := ask(t.Context(), s.client, nil)
		failed <- err
	}()
	<-entered
	s.client.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if _, err := ask(t.Context(), s.client, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("call: got %v, want %v", err, ErrClosed)
	}
	if err := s.client.Warm(); !errors.Is(err, ErrClosed) {
		t.Errorf("Warm: got %v, want %v", err, ErrClosed)
	}
}

// A server that ends gracefully finishes its calls, and others go to the next one.
func TestGracefulStop(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, func(stream google.ServerStream) error {
		close(entered)
		<-leave
		return echo(stream)
	})
	finished := make(chan error)
	go func() {
		got, err := ask(t.Context(), s.client, []byte("old"))
		if err == nil && string(got[0]) != "old" {
			err = fmt.Errorf("got %q", got)
		}
		finished <- err
	}()
	<-entered
	old := s.Server
	stopped := make(chan struct{})
	go func() {
		old.GracefulStop()
		close(stopped)
	}()
	for draining := false; !draining; time.Sleep(time.Millisecond) {
		s.client.mu.Lock()
		for k := range s.client.conns {
			k.mu.Lock()
			draining = k.draining
			k.mu.Unlock()
		}
		s.client.mu.Unlock()
	}
	s.start(t, func(google.ServerStream) error { return googlestatus.Error(codes.AlreadyExists, "new") })
	if _, err := ask(t.Context(), s.client, nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("new call: got %v, want the new server's answer", err)
	}
	close(leave)
	if err := <-finished; err != nil {
		t.Errorf("old call: %v", err)
	}
	<-stopped
	if n := s.taken.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestRestart(t *testing.T) {
	s := serve(t, echo)
	for range 10 {
		if _, err := ask(t.Context(), s.client, nil); err != nil && !errdefs.IsUnavailable(err) {
			t.Error(err)
		}
		s.Stop()
		s.start(t, echo)
		for try := 0; ; try++ { // the end of a connection may not be known yet
			_, err := ask(t.Context(), s.client, nil)
			if err == nil {
				break
			}
			if !errdefs.IsUnavailable(err) || try > 10 {
				t.Fatal(err)
			}
		}
	}
}

func TestServerThatIsAway(t *testing.T) {
	s := &server{client: &Client{Path: filepath.Join(t.TempDir(), "late.sock")}}
	defer s.client.Close()
	if err := s.client.Warm(); err == nil {
		t.Error("Warm: no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, s.client, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "late.sock") {
		t.Errorf("got %v, want the deadline and what failed", err)
	}
	started := make(chan struct{})
	time.AfterFunc(100*time.Millisecond, func() {
		s.start(t, echo)
		close(started)
	})
	if _, err := ask(t.Context(), s.client, nil); err != nil {
		t.Error(err)
	}
	<-started
	s.Stop()
}

// Nothing of the client runs when it was idle.
func TestIdle(t *testing.T) {
	s := serve(t, echo)
	s.client.idleTime = 20 * time.Millisecond
	before := runtime.NumGoroutine()
	for round, use := range []func() error{
		s.client.Warm,
		func() error { _, err := ask(t.Context(), s.client, nil); return err },
	} {
		if err := use(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			s.client.mu.Lock()
			n := len(s.client.conns)
			s.client.mu.Unlock()
			if n == 0 && runtime.NumGoroutine() <= before {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("round %d: %d connections, %d goroutines and there were %d", round, n, runtime.NumGoroutine(), before)
			}
		}
	}
	if n := s.taken.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A call that is longer than the idle time is not idle.
func TestIdleWaitsForCalls(t *testing.T) {
	s := serve(t, func(stream google.ServerStream) error {
		time.Sleep(50 * time.Millisecond)
		return echo(stream)
	})
	s.client.idleTime = time.Millisecond
	for range 3 {
		if _, err := ask(t.Context(), s.client, nil); err != nil {
			t.Error(err)
		}
	}
}
