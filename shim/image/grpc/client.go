// Package grpc asks a gRPC server on a unix socket: calls of one request and one or more replies, without TLS, compression
// or anything else that containerd's services do not use. It is what is needed of gRPC (grpc.io, PROTOCOL-HTTP2.md) over
// HTTP/2 (RFC 9113); why it is not google.golang.org/grpc or net/http: docs/rationale/server.md.
package grpc

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hachi-run/hachi/shim/status"
)

const (
	// redialTime is between two attempts to connect; containerd restarts in less than a second.
	redialTime = 50 * time.Millisecond
	// defaultIdleTime is when a connection without calls gives its goroutine and its buffers back: soon, for a pod asks when
	// its containers start, and then for days not at all.
	defaultIdleTime = 10 * time.Second
)

// ErrClosed is the error of calls after Close, and of those that Close ended.
var ErrClosed = errors.New("gRPC client is closed")

// Client asks one server. It connects when it is needed and keeps one connection, more only while a server that ends finishes
// its calls. Several goroutines may use it; its exported fields are set before.
type Client struct {
	// Path is the server's socket.
	Path string
	// Metadata go with every call, by lower-case names.
	Metadata map[string]string

	idleTime time.Duration // instead of defaultIdleTime, for tests

	mu      sync.Mutex
	closed  bool               // guarded by mu
	conns   map[*conn]struct{} // guarded by mu
	readers sync.WaitGroup
}

// Warm connects, and does not wait for the server's part of it, so that the first call need not.
func (c *Client) Warm() error {
	s, err := c.dial(context.Background())
	if err != nil {
		return err
	}
	s.close()
	return nil
}

// acquire returns a stream of a connection that takes calls, and waits for a server that is away. Close the stream.
func (c *Client) acquire(ctx context.Context) (*stream, error) {
	for {
		s, err := c.dial(ctx)
		if err == nil || errors.Is(err, ErrClosed) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, &status.Error{Code: status.Of(ctx.Err()).Code, Message: err.Error()}
		case <-time.After(redialTime):
		}
	}
}

// dial connects if no connection takes calls. Neither a unix socket nor HTTP/2 makes it wait for the server's answer.
func (c *Client) dial(ctx context.Context) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	for k := range c.conns {
		if s := k.reserve(); s != nil {
			return s, nil
		}
	}
	socket, err := new(net.Dialer).DialContext(ctx, "unix", c.Path)
	if err != nil {
		return nil, err
	}
	return c.add(socket)
}

// add takes a connected socket; c.mu is held.
func (c *Client) add(socket net.Conn) (*stream, error) {
	k := newConn(socket, cmp.Or(c.idleTime, defaultIdleTime))
	if err := k.greet(); err != nil {
		return nil, err
	}
	if c.conns == nil {
		c.conns = map[*conn]struct{}{}
	}
	c.conns[k] = struct{}{}
	s := k.reserve()
	c.readers.Go(func() {
		k.read()
		c.mu.Lock()
		delete(c.conns, k)
		c.mu.Unlock()
	})
	return s, nil
}

// Close ends the calls in flight, and the connection. It is idempotent.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	for k := range c.conns {
		k.fail(ErrClosed)
	}
	c.mu.Unlock()
	c.readers.Wait()
	return nil
}
