package agent

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

// fakeNode is a node whose containers and flows a test makes up. What it stands for is tested in package node.
type fakeNode struct {
	mu         sync.Mutex
	containers []node.Container
	exits      []ledger.Exit
	recent     []node.Flow
	err        error
	lost       uint64
	lostErr    error

	// collected gets a value each time that leftovers are looked for, if there is room.
	collected chan struct{}
	// flows are what a follower gets.
	flows chan node.Flow
}

func (n *fakeNode) Containers() ([]node.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.containers, n.err
}

func (n *fakeNode) Exited() ([]ledger.Exit, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exits, n.err
}

func (n *fakeNode) Recent() ([]node.Flow, error) { return n.recent, n.err }
func (n *fakeNode) Lost() (uint64, error)        { return n.lost, n.lostErr }

func (n *fakeNode) Check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *fakeNode) Collect() error {
	select {
	case n.collected <- struct{}{}:
	default:
	}
	return nil
}

func (n *fakeNode) Follow(ctx context.Context, f func(*node.Flow)) error {
	if n.flows == nil {
		return fs.ErrNotExist
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-n.flows:
			f(&x)
		}
	}
}

func (n *fakeNode) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// served is an agent that runs until the test ends.
type served struct {
	*Agent
	url  string
	stop func() error
}

func serve(t *testing.T, n Node, features ...Feature) *served {
	t.Helper()
	a, err := New(Options{Node: n, Listen: "127.0.0.1:0", Features: features, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return &served{a, "http://" + a.Addr().String(), stop}
}

// get returns the status and the body.
func (s *served) get(t *testing.T, path string) (int, string) {
	t.Helper()
	reply, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

// follow opens a stream; lines come from the channel, which is closed with the stream.
func (s *served) follow(t *testing.T, query string) <-chan string {
	t.Helper()
	reply, err := http.Get(s.url + "/flows?follow=1" + query) //nolint:bodyclose // the Cleanup below closes it
	if err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("status %s", reply.Status)
	}
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reply.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		reply.Body.Close()
		for range lines {
		}
	})
	return lines
}

// next waits for a line; "" is the end.
func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case l := <-lines:
		return l
	case <-time.After(10 * time.Second):
		t.Fatal("no line within 10 s")
		return ""
	}
}
