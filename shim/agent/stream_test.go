package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/shim/node"
)

func flowOf(pod string, seq uint64) node.Flow {
	return node.Flow{
		Namespace: "default", Pod: pod, Container: "main", ID: "1", Seq: seq, Kind: flow.KindConn, Direction: flow.Out, Protocol: "tcp",
		Local: netip.MustParseAddrPort("10.0.0.1:40000"), Peer: netip.MustParseAddrPort("10.0.0.2:80"),
		Connection: &node.Connection{TxBytes: 1, RxBytes: 2, Verdict: flow.OK},
	}
}

func TestFlowStream(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow)}
	s := serve(t, n)
	all, web := s.follow(t, ""), s.follow(t, "&pod=web&namespace=default")
	n.flows <- flowOf("db", 1)
	n.flows <- flowOf("web", 2)
	for reader, want := range map[<-chan string][]string{all: {`"seq":1,`, `"seq":2,`}, web: {`"seq":2,`}} {
		for _, w := range want {
			if line := next(t, reader); !strings.Contains(line, w) {
				t.Errorf("got %s, want one with %s", line, w)
			}
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop with readers: %v", err)
	}
	if line := next(t, all); line != "" {
		t.Errorf("after the end: %s", line)
	}
}

// TestFlowStreamSlowReader never reads: the node goes on, memory is bounded, and what was missed is told.
func TestFlowStreamSlowReader(t *testing.T) {
	var st stream
	slow := st.join(node.Filter{}.Match)
	if slow == nil {
		t.Fatal("no room")
	}
	const flows = backlog + 100
	for k := range uint64(flows) {
		f := flowOf("web", k)
		st.send(&f)
	}
	if len(slow.flows) != backlog || slow.missed.Load() != 100 || st.dropped.Load() != 100 {
		t.Errorf("%d flows wait, %d are missed, %d dropped; want %d, 100 and 100", len(slow.flows), slow.missed.Load(), st.dropped.Load(), backlog)
	}
	st.leave(slow)
	if st.count() != 0 {
		t.Error("it is still there")
	}
}

// TestFlowStreamTellsMissed sends more than a connection takes that nobody reads, and then reads it.
func TestFlowStreamTellsMissed(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow)}
	s := serve(t, n)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /flows?follow=1 HTTP/1.1\r\nHost: agent\r\n\r\n")
	for deadline := time.Now().Add(10 * time.Second); s.stream.count() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no reader")
		}
	}
	f := flowOf("web", 1)
	f.Error = strings.Repeat("x", 16<<10) // so that the socket's buffers fill soon
	for s.stream.dropped.Load() < 5 {
		n.flows <- f
	}
	n.flows <- flowOf("last", 2)
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var read strings.Builder
	buf := make([]byte, 1<<16)
	for !strings.Contains(read.String(), `{"missed":`) {
		k, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v; nothing was said of %d missed lines", err, s.stream.dropped.Load())
		}
		read.Reset() // only the end counts, and a line may lie across two reads
		read.Write(buf[:k])
		select {
		case n.flows <- f: // the reader is told with the next line
		default:
		}
	}
}

func TestFlowStreamIsFull(t *testing.T) {
	var st stream
	for range maxReaders {
		if st.join(node.Filter{}.Match) == nil {
			t.Fatal("refused too early")
		}
	}
	if st.join(node.Filter{}.Match) != nil {
		t.Error("one too many")
	}
	st.close()
	if st.join(node.Filter{}.Match) != nil {
		t.Error("joined after the end")
	}
}

func TestRecentFlows(t *testing.T) {
	n := &fakeNode{recent: []node.Flow{flowOf("web", 1), flowOf("db", 2)}}
	s := serve(t, n)
	if status, body := s.get(t, "/flows"); status != 200 || strings.Count(body, "\n") != 2 {
		t.Errorf("status %d, %s", status, body)
	}
	if status, body := s.get(t, "/flows?pod=db"); status != 200 || strings.Count(body, "\n") != 1 || !strings.Contains(body, `"pod":"db"`) {
		t.Errorf("status %d, %s", status, body)
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t, &fakeNode{})
	for path, want := range map[string]int{
		"/flows?follow=maybe":   http.StatusBadRequest,
		"/flows?pdo=x":          http.StatusBadRequest,
		"/flows?pod=a&pod=b":    http.StatusBadRequest,
		"/nothing":              http.StatusNotFound,
		"/flows?follow=0&pod=a": http.StatusOK,
	} {
		if status, body := s.get(t, path); status != want {
			t.Errorf("%s: status %d (%s), want %d", path, status, body, want)
		}
	}
	reply, err := http.Post(s.url+"/flows", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, reply.Body)
	reply.Body.Close()
	if reply.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", reply.StatusCode)
	}
}

func TestHealth(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow), collected: make(chan struct{}, 1)}
	s := serve(t, n)
	n.flows <- flowOf("web", 1) // it follows now
	if status, body := s.get(t, "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("status %d, %q", status, body)
	}
	n.fail(errors.New("ledger: permission denied"))
	if status, body := s.get(t, "/healthz"); status != 503 || !strings.Contains(body, "permission denied") {
		t.Errorf("status %d, %q", status, body)
	}
	select {
	case <-n.collected:
	case <-time.After(10 * time.Second):
		t.Error("leftovers were not looked for at the start")
	}
	bare := serve(t, &fakeNode{})
	for {
		status, body := bare.get(t, "/healthz")
		if status != 200 {
			t.Errorf("status %d, %q", status, body)
		}
		if strings.Contains(body, "no flows arrive") {
			break
		}
	}
}

func TestAddressInUse(t *testing.T) {
	s := serve(t, &fakeNode{})
	if a, err := New(Options{Node: &fakeNode{}, Listen: s.Addr().String()}); err == nil {
		a.Close()
		t.Error("two agents at one address")
	}
}
