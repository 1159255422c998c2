// Package agent is the node agent: what the node's containers use, as Prometheus metrics, and what they connect to, as a
// stream of JSON lines or of gRPC messages. It also clears away what dead pods left.
//
// The agent only reads what shims count. No pod needs it, and it may be killed and started again at any time.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

const (
	// collectEvery is the time between two looks for leftovers.
	collectEvery = time.Minute
	// followAgain is the time between two attempts to follow flows: on a node where no pod ever started, nothing is
	// loaded yet.
	followAgain = 2 * time.Second
	// farewell is how long requests may go on after the end was asked for.
	farewell = 3 * time.Second
	// answerTime bounds how long a client may take to read an answer; streams have writeTime.
	answerTime = 30 * time.Second
	// readHeader bounds how long a client may take to ask.
	readHeader = 5 * time.Second
)

// Node is what the agent reports on; package node has it. Its methods are called from several goroutines.
type Node interface {
	Containers() ([]node.Container, error)
	Exited() ([]ledger.Exit, error)
	Recent() ([]node.Flow, error)
	// Follow calls its function with each new flow, which it may keep, until ctx ends.
	Follow(context.Context, func(*node.Flow)) error
	Lost() (uint64, error)
	// Check tells why the node cannot be read; nil if it can.
	Check() error
	// Collect removes what dead pods left.
	Collect() error
}

// Feature is one thing that this kernel and this process can do, or not.
type Feature struct {
	Name  string
	Works bool
}

// Options configure an Agent.
type Options struct {
	Node Node
	// Listen is the address of the server, HTTP and gRPC without TLS, for example "127.0.0.1:9464".
	Listen string
	// Features are shown as metrics.
	Features []Feature
	// Log gets warnings; nil is slog.Default.
	Log *slog.Logger
}

// Agent serves a node's metrics and flows.
type Agent struct {
	o        Options
	log      *slog.Logger
	listener net.Listener
	stream   stream
	// following says that flows arrive, and flows counts them.
	following atomic.Bool
	flows     atomic.Uint64
}

// New binds the address. Run serves it, or Close gives it back.
func New(o Options) (*Agent, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	return &Agent{o: o, log: o.Log, listener: l}, nil
}

// Addr is the address that is served.
func (a *Agent) Addr() net.Addr { return a.listener.Addr() }

// Close releases the address of an agent that was never run.
func (a *Agent) Close() error { return a.listener.Close() }

// Run serves until ctx ends, and then lets what was asked for be answered. Its error is the server's; whatever goes wrong
// with the node is logged and shows in /healthz.
func (a *Agent) Run(ctx context.Context) error {
	calls := a.calls()
	// One port for both, for a gRPC client's HTTP/2 begins with bytes that are no request of HTTP/1.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: withCalls(calls, a.handler()), Protocols: &protocols, ReadHeaderTimeout: readHeader, WriteTimeout: answerTime,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", a.Addr(), err)
		}
		return nil
	})
	g.Go(func() error { a.follow(ctx); return nil })
	g.Go(func() error { a.collect(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		a.stream.close() // their requests end
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		defer calls.Stop() // waits for those whose connections were closed
		if server.Shutdown(late) != nil {
			return server.Close()
		}
		return nil
	})
	return g.Wait()
}

// follow hands flows on until ctx ends.
func (a *Agent) follow(ctx context.Context) {
	var told string
	for {
		a.following.Store(true)
		err := a.o.Node.Follow(ctx, func(f *node.Flow) {
			a.flows.Add(1)
			a.stream.send(f)
		})
		a.following.Store(false)
		if ctx.Err() != nil {
			return
		}
		// Once for each reason: it is asked again and again.
		if reason := fmt.Sprint(err); reason != told {
			told = reason
			level := slog.LevelWarn
			if errors.Is(err, fs.ErrNotExist) {
				level = slog.LevelInfo
			}
			a.log.Log(ctx, level, "no flows yet", "reason", reason)
		}
		if !sleep(ctx, followAgain) {
			return
		}
	}
}

// collect clears away leftovers, at once and then every minute.
func (a *Agent) collect(ctx context.Context) {
	for {
		if err := a.o.Node.Collect(); err != nil {
			a.log.Warn("cannot remove what dead pods left", "error", err)
		}
		if !sleep(ctx, collectEvery) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
