package image

import (
	"context"
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

	"github.com/hachi-run/hachi/shim/image/grpc"
	"github.com/hachi-run/hachi/shim/image/imagepb"
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
		return p.source.call(ctx, contentRead, &imagepb.ReadContentRequest{Digest: "digest"}, func(m []byte) error {
			var reply imagepb.ReadContentResponse
			err := understood(reply.UnmarshalVT(m))
			got = append(got, string(reply.Data))
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
	raw, _ := (&imagepb.ReadContentResponse{Data: []byte(text)}).MarshalVT()
	return frame(string(raw))
}

func TestMalformedReply(t *testing.T) {
	p := listen(t, func(w http.ResponseWriter, _ *http.Request) { send(w, frame("\x12\x7f"), "Grpc-Status", "0") })
	if _, err := p.ask(t.Context()); !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "malformed reply") {
		t.Errorf("content: got %v", err)
	}
	p = listen(t, func(w http.ResponseWriter, _ *http.Request) { send(w, frame("\x0a\x7f"), "Grpc-Status", "0") })
	if _, err := p.source.target(t.Context(), "name"); !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "malformed reply") {
		t.Errorf("image: got %v", err)
	}
}

func TestSomethingElseAnswers(t *testing.T) {
	p := listen(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "text", http.StatusServiceUnavailable) })
	if _, err := p.ask(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "is containerd running?") {
		t.Errorf("got %v", err)
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
		send(w, data(r.Method+" "+r.URL.Path), "Grpc-Status", "0")
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
						send(w, data("one")+data("two"), "Grpc-Status", "0")
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
	entered := make(chan struct{}, 1)
	p := listen(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	failed := make(chan error)
	go func() {
		_, err := p.ask(t.Context())
		failed <- err
	}()
	<-entered
	p.source.Close()
	if err := <-failed; !errors.Is(err, grpc.ErrClosed) {
		t.Errorf("got %v, want %v", err, grpc.ErrClosed)
	}
	if err := p.source.Warm(); !errors.Is(err, grpc.ErrClosed) {
		t.Errorf("Warm: got %v, want %v", err, grpc.ErrClosed)
	}
}
