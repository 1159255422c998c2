package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// peer is a socket whose answers need not be gRPC.
type peer struct {
	net.Listener
	source *Source

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (p *peer) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err == nil {
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
	}
	return c, err
}

// cut breaks every connection and returns how many there were ever.
func (p *peer) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	return len(p.conns)
}

func listen(t *testing.T, answer http.HandlerFunc) *peer {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "p.sock"))
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Listener: l, source: &Source{Address: l.Addr().String(), Namespace: "ns"}}
	server := &http.Server{Handler: answer, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	t.Cleanup(func() {
		if err := errors.Join(p.source.Close(), p.source.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		p.cut()
		<-done
	})
	return p
}

// ask makes one call and returns the messages of its reply.
func (p *peer) ask(ctx context.Context) (got []string, err error) {
	err = p.source.ask(ctx, func(ctx context.Context) error {
		got = nil
		return p.source.call(ctx, contentRead, request("digest"), func(m []byte) error {
			data, err := parseData(m)
			got = append(got, string(data))
			return err
		})
	})
	return got, err
}

// send answers with raw bytes and with trailers, given as name and value.
func send(w http.ResponseWriter, body string, trailers ...string) {
	w.Header().Set("Content-Type", "application/grpc+proto")
	w.Write([]byte(body))
	w.(http.Flusher).Flush()
	for i := 0; i < len(trailers); i += 2 {
		w.Header().Set(http.TrailerPrefix+trailers[i], trailers[i+1])
	}
}

func frame(message string) string {
	return string([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}) + message
}

// data is a ReadContentResponse in its frame.
func data(text string) string {
	b := protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7), 2, protowire.BytesType)
	return frame(string(protowire.AppendString(b, text)))
}

func TestAnswers(t *testing.T) {
	ok := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { send(w, body, statusKey, "0") }
	}
	ends := func(trailers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { send(w, data("one"), trailers...) }
	}
	alone := func(headers ...string) http.HandlerFunc { // trailers only
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
		}
	}
	plain := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "text", code) }
	}
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		got    string
		kind   func(error) bool
		says   string
	}{
		{"one message", ok(data("one")), "[one]", nil, ""},
		{"several messages", ok(data("one") + data("") + data("three")), "[one  three]", nil, ""},
		{"no message", ok(""), "[]", nil, ""},
		{"an unknown field", ok(frame("\x5a\x01x")), "[]", nil, ""},
		{"an error alone", alone(statusKey, "5", "Grpc-Message", "no image"), "[]", errdefs.IsNotFound, "no image"},
		{"success alone", alone(statusKey, "0"), "[]", nil, ""},
		{"an escaped error", alone(statusKey, "5", "Grpc-Message", "50%25 of b%C3%BCro+x%0A"), "[]", errdefs.IsNotFound, "50% of büro+x\n"},
		{"a badly escaped error", alone(statusKey, "5", "Grpc-Message", "50% of it"), "[]", errdefs.IsNotFound, "50% of it"},
		{"an error after a message", ends(statusKey, "9", "Grpc-Message", "broken%3A"), "[one]", errdefs.IsFailedPrecondition, "broken:"},
		{"an unknown code", alone(statusKey, "77"), "[]", errdefs.IsUnknown, ""},
		{"no status", ends(), "[one]", errdefs.IsInternal, `grpc-status ""`},
		{"a status that is no number", ends(statusKey, "x"), "[one]", errdefs.IsInternal, `grpc-status "x"`},
		{"a negative status", ends(statusKey, "-1"), "[one]", errdefs.IsInternal, `grpc-status "-1"`},
		{"too large a message", ok("\x00\x01\x00\x00\x01"), "[]", errdefs.IsResourceExhausted, "larger than max (16777217 vs. 16777216)"},
		{"compression", ok("\x01" + data("one")[1:]), "[]", errdefs.IsInternal, "compression"},
		{"half a head", ok("\x00\x00"), "[]", errdefs.IsInternal, "ends within a message"},
		{"a head alone", ok("\x00\x00\x00\x00\x05"), "[]", errdefs.IsInternal, "ends within a message"},
		{"half a message", ok(data("one")[:7]), "[]", errdefs.IsInternal, "ends within a message"},
		{"no protobuf", ok(frame("\x0a\x7f")), "[]", errdefs.IsInternal, "malformed reply"},
		{"no such page", plain(http.StatusNotFound), "[]", errdefs.IsNotImplemented, "404"},
		{"a proxy", plain(http.StatusServiceUnavailable), "[]", errdefs.IsUnavailable, "is containerd running?"},
		{"no gRPC", plain(http.StatusOK), "[]", errdefs.IsUnknown, "text/plain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := listen(t, tc.answer).ask(t.Context())
			if fmt.Sprint(got) != tc.got {
				t.Errorf("got messages %v, want %s", got, tc.got)
			}
			if tc.kind == nil && err != nil || tc.kind != nil && (err == nil || !tc.kind(err) || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("got error %v; want it to say %q", err, tc.says)
			}
		})
	}
}

// A real gRPC server: its errors, with their details, arrive as grpc-go's own client gives them.
func TestErrorsOfGRPC(t *testing.T) {
	for _, sent := range []error{
		errdefs.ErrNotFound,
		fmt.Errorf("image \"ü%%\n\": %w", errdefs.ErrNotFound),
		fmt.Errorf("%w: and %w", errdefs.ErrFailedPrecondition, errdefs.ErrNotFound),
		errors.Join(errdefs.ErrNotFound, errdefs.ErrDataLoss),
		errors.New("plain"),
	} {
		t.Run(sent.Error(), func(t *testing.T) {
			s := &Source{Address: filepath.Join(t.TempDir(), "g.sock"), Namespace: "ns"}
			defer s.Close()
			l, err := net.Listen("unix", s.Address)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errgrpc.ToGRPC(sent) }))
			defer server.Stop()
			go server.Serve(l) // ends with Stop
			_, got := s.target(t.Context(), "name")
			st, ok := status.FromError(got)
			if want := status.Convert(errgrpc.ToGRPC(sent)).Proto(); !ok || !proto.Equal(st.Proto(), want) {
				t.Errorf("got %v, want %v", st.Proto(), want)
			}
		})
	}
}

// Details that are no message, or contradict the status, do not hide it.
func TestStatusOverItsDetails(t *testing.T) {
	other := status.New(codes.DataLoss, "other").Proto()
	other.Details = []*anypb.Any{{TypeUrl: "x"}}
	raw, err := proto.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, details := range []string{"!", "AA", "CAA=", base64.StdEncoding.EncodeToString(raw)} {
		err := verdict(http.Header{statusKey: {"5"}, "Grpc-Message": {"none"}, "Grpc-Status-Details-Bin": {details}})
		if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "none" {
			t.Errorf("%s: got %v", details, err)
		}
	}
}

func TestRequest(t *testing.T) {
	p := listen(t, func(w http.ResponseWriter, r *http.Request) {
		took, _ := strconv.Atoi(strings.TrimSuffix(r.Header.Get("Grpc-Timeout"), "m"))
		if took < 9000 || took > 10000 {
			t.Errorf("grpc-timeout %q, want about 10 s", r.Header.Get("Grpc-Timeout"))
		}
		for name, want := range map[string]string{"Content-Type": "application/grpc", "Te": "trailers", "Containerd-Namespace": "ns", "Accept-Encoding": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		send(w, data(r.Method+" "+r.URL.Path), statusKey, "0")
	})
	got, err := p.ask(t.Context())
	if want := "[POST /containerd.services.content.v1.Content/Read]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
}

func TestBrokenConnectionIsTriedAgain(t *testing.T) {
	for name, within := range map[string]string{"before the answer": "", "between messages": data("one"), "within a message": data("one")[:8]} {
		for _, breaks := range []int32{1, 2, 3} {
			t.Run(fmt.Sprintf("%s %d times", name, breaks), func(t *testing.T) {
				var p *peer
				var calls atomic.Int32
				p = listen(t, func(w http.ResponseWriter, _ *http.Request) {
					if calls.Add(1) > breaks {
						send(w, data("one")+data("two"), statusKey, "0")
						return
					}
					if within != "" {
						send(w, within)
					}
					p.cut()
				})
				got, err := p.ask(t.Context())
				if breaks < 3 && (err != nil || fmt.Sprint(got) != "[one two]") {
					t.Errorf("got %v, %v", got, err)
				}
				if breaks == 3 && (!errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "is containerd running?")) {
					t.Errorf("got %v, %v; want Unavailable", got, err)
				}
				if got, want := calls.Load(), min(breaks+1, 3); got != want {
					t.Errorf("%d calls, want %d", got, want)
				}
			})
		}
	}
}

func TestOneConnectionWhileInUse(t *testing.T) {
	p := listen(t, func(w http.ResponseWriter, _ *http.Request) { send(w, data("one"), statusKey, "0") })
	if err := p.source.Warm(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := p.ask(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := p.cut(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestIdleConnectionCloses(t *testing.T) {
	p := listen(t, func(w http.ResponseWriter, _ *http.Request) { send(w, data("one"), statusKey, "0") })
	p.source.idle = 30 * time.Millisecond
	closes := func(after string) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); p.source.conn.Load() != nil; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the connection stays", after)
			}
		}
	}
	if err := p.source.Warm(); err != nil {
		t.Fatal(err)
	}
	closes("Warm")
	if _, err := p.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	closes("a call")
	if n := p.cut(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestContextEndsACall(t *testing.T) {
	p := listen(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.ask(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "is containerd running?") {
		t.Errorf("deadline: got %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := p.ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancel: got %v", err)
	}
}

func TestCloseEndsACall(t *testing.T) {
	entered := make(chan struct{})
	p := listen(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	failed := make(chan error)
	go func() {
		_, err := p.ask(t.Context())
		failed <- err
	}()
	<-entered
	p.source.Close()
	if err := <-failed; !errors.Is(err, errClosed) {
		t.Errorf("got %v, want %v", err, errClosed)
	}
	if err := p.source.Warm(); !errors.Is(err, errClosed) {
		t.Errorf("Warm: got %v, want %v", err, errClosed)
	}
}

func TestWaitsForContainerd(t *testing.T) {
	p := &peer{source: &Source{Address: filepath.Join(t.TempDir(), "late.sock"), Namespace: "ns"}}
	defer p.source.Close()
	if err := p.source.Warm(); err == nil {
		t.Error("Warm: no error without a containerd")
	}
	time.AfterFunc(100*time.Millisecond, func() {
		l, err := net.Listen("unix", p.source.Address)
		if err != nil {
			t.Error(err)
			return
		}
		server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "here") }))
		t.Cleanup(server.Stop)
		go server.Serve(l) // ends with Stop
	})
	if _, err := p.ask(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want the answer of the late server", err)
	}
}
