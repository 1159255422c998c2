package ttrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/status"
)

// errClosed is the error of calls on a connection that ended or was closed.
var errClosed = fmt.Errorf("ttrpc connection is closed: %w", errdefs.ErrUnavailable)

// Client makes calls over one connection, any number at once.
type Client struct {
	link *link
	done chan struct{} // closed when the reader has ended

	mu    sync.Mutex              // held while a request is written, too: a server wants rising numbers
	last  uint32                  // guarded by mu: the number of the last stream
	waits map[uint32]chan<- frame // guarded by mu; nil once the connection ended
}

// NewClient takes over a connection. Close closes it.
func NewClient(conn net.Conn) *Client {
	c := &Client{link: newLink(conn), done: make(chan struct{}), waits: make(map[uint32]chan<- frame)}
	go c.receive()
	return c
}

// Close closes the connection. Calls that wait for their answers fail. Further calls of Close do nothing.
func (c *Client) Close() error {
	err := c.link.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// receive hands replies to the calls that wait for them.
func (c *Client) receive() {
	defer close(c.done)
	for {
		f, err := c.link.recv()
		if errors.Is(err, errTooLarge) {
			f.kind, err = 0, nil // no reply to read: the caller says so
		}
		c.mu.Lock()
		if err != nil {
			for _, wait := range c.waits {
				close(wait)
			}
			c.waits = nil
			c.mu.Unlock()
			_ = c.link.conn.Close()
			return
		}
		wait := c.waits[f.stream]
		delete(c.waits, f.stream)
		c.mu.Unlock()
		if wait != nil { // else its caller has gone
			wait <- f
		}
	}
}

// Call calls a method and fills reply. An error of the server's is a *status.Error; errdefs.ErrUnavailable says that the
// connection is gone, and with ctx's error the answer comes too late.
func (c *Client) Call(ctx context.Context, service, method string, request, reply Message) error {
	payload, err := request.MarshalVT()
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	r := &Request{Service: service, Method: method, Payload: payload}
	if end, ok := ctx.Deadline(); ok {
		r.TimeoutNano = max(1, int64(time.Until(end)))
	}
	stream, answer, err := c.ask(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	var f frame
	select {
	case f = <-answer:
	case <-ctx.Done():
		c.forget(stream)
		return fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
	switch {
	case f.stream == 0:
		return fmt.Errorf("call %s: %w", method, errClosed)
	case f.kind != kindResponse:
		return fmt.Errorf("call %s: the answer is of kind %d, or above %d bytes: %w", method, f.kind, maxMessage, errdefs.ErrInternal)
	}
	var response Response
	if err := response.UnmarshalVT(f.body); err != nil {
		return fmt.Errorf("call %s: malformed answer: %w: %w", method, err, errdefs.ErrInternal)
	}
	if err := decode(response.Status); err != nil {
		return err
	}
	if err := reply.UnmarshalVT(response.Payload); err != nil {
		return fmt.Errorf("call %s: malformed answer: %w: %w", method, err, errdefs.ErrInternal)
	}
	return nil
}

// ask sends a request. The answer comes on the channel, which is closed if none can come any more.
func (c *Client) ask(r *Request) (uint32, <-chan frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		return 0, nil, errClosed
	}
	stream := c.last + 1 // odd ones are a client's
	c.last = stream + 1
	answer := make(chan frame, 1)
	c.waits[stream] = answer
	if err := c.link.send(stream, kindRequest, r); err != nil {
		delete(c.waits, stream)
		var refused *status.Error
		if !errors.As(err, &refused) { // the connection's
			err = fmt.Errorf("%w: %w", errClosed, err)
		}
		return 0, nil, err
	}
	return stream, answer, nil
}

func (c *Client) forget(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waits, stream)
}
