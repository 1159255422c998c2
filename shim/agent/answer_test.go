package agent

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// brief is far shorter than what the tests wait.
const brief = 50 * time.Millisecond

// ask gets h's answer from a server that speaks p alone and has a deadline of its own.
func ask(t *testing.T, p *http.Protocols, h http.HandlerFunc) io.Reader {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.Protocols, server.Config.WriteTimeout = p, brief
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{Protocols: p}
	t.Cleanup(transport.CloseIdleConnections)
	reply, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reply.Body.Close() })
	return reply.Body
}

// perProtocol runs a test for each that the agent's port speaks.
func perProtocol(t *testing.T, test func(*testing.T, *http.Protocols)) {
	var http1, http2 http.Protocols
	http1.SetHTTP1(true)
	http2.SetUnencryptedHTTP2(true)
	for name, p := range map[string]*http.Protocols{"HTTP/1": &http1, "HTTP/2": &http2} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// TestAnswerMayIdle is silent for longer than any deadline.
func TestAnswerMayIdle(t *testing.T) {
	perProtocol(t, func(t *testing.T, p *http.Protocols) {
		answered := ask(t, p, func(w http.ResponseWriter, _ *http.Request) {
			out := newAnswer(w, brief)
			for range 3 {
				time.Sleep(3 * brief)
				if _, err := io.WriteString(out, "flow "); err != nil {
					t.Error(err)
				}
				if err := out.FlushError(); err != nil {
					t.Error(err)
				}
			}
		})
		if body, err := io.ReadAll(answered); err != nil || string(body) != "flow flow flow " {
			t.Errorf("%q, %v", body, err)
		}
	})
}

// TestAnswerDropsWhoDoesNotRead writes until it is refused.
func TestAnswerDropsWhoDoesNotRead(t *testing.T) {
	perProtocol(t, func(t *testing.T, p *http.Protocols) {
		dropped := make(chan struct{})
		ask(t, p, func(w http.ResponseWriter, _ *http.Request) {
			defer close(dropped)
			out := newAnswer(w, brief)
			for chunk := make([]byte, 64<<10); ; {
				if _, err := out.Write(chunk); err != nil || out.FlushError() != nil {
					return
				}
			}
		})
		select {
		case <-dropped:
		case <-time.After(15 * time.Second):
			t.Error("it waits for a reader that does not read")
		}
	})
}
