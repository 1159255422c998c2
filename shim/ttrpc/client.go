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

	sending sync.Mutex // held while a stream gets its number and its request is written: a server wants rising numbers
	last    uint32     // guarded by sending: the number of the last stream

	mu    sync.Mutex
	waits map[uint32]chan<- answer // guarded by mu; nil once the connection ended
}

// answer is the body of a response, or why there is none.
type answer struct {
	body []byte
	err  error
}

// NewClient takes over a connection. Close closes it.
func NewClient(conn net.Conn) *Client {
	c := &Client{link: newLink(conn), done: make(chan struct{}), waits: make(map[uint32]chan<- answer)}
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

// receive hands answers to the calls that wait for them.
func (c *Client) receive() {
	defer close(c.done)
	for {
		f, err := c.link.recv()
		switch {
		case errors.Is(err, errTooLarge):
			c.hand(f.stream, answer{err: fmt.Errorf("answer: %w: %w", err, errdefs.ErrResourceExhausted)})
		case err != nil:
			c.end()
			return
		case f.kind != kindResponse:
			c.hand(f.stream, answer{err: fmt.Errorf("the answer is a frame of kind %d: %w", f.kind, errdefs.ErrInternal)})
		default:
			c.hand(f.stream, answer{body: f.body})
		}
	}
}

// hand gives a call its answer, unless its caller has gone.
func (c *Client) hand(stream uint32, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.waits[stream]; wait != nil {
		delete(c.waits, stream)
		wait <- a // which has room for one
	}
}

// end fails all calls.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, wait := range c.waits {
		wait <- answer{err: errClosed}
	}
	c.waits = nil
	_ = c.link.conn.Close() // Close may have been first
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
	stream, answered, err := c.ask(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		c.forget(stream)
		return fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
	if a.err != nil {
		return fmt.Errorf("call %s: %w", method, a.err)
	}
	var response Response
	if err := response.UnmarshalVT(a.body); err != nil {
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

// ask sends a request, whose answer then comes on the channel.
func (c *Client) ask(r *Request) (uint32, <-chan answer, error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	stream := c.last + 1 // odd ones are a client's
	c.last = stream + 1
	answered, err := c.expect(stream)
	if err != nil {
		return 0, nil, err
	}
	if err := c.link.send(stream, kindRequest, r); err != nil {
		c.forget(stream)
		var refused *status.Error
		if !errors.As(err, &refused) { // the connection's
			err = fmt.Errorf("%w: %w", errClosed, err)
		}
		return 0, nil, err
	}
	return stream, answered, nil
}

// expect makes room for the answer of a stream.
func (c *Client) expect(stream uint32) (<-chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		return nil, errClosed
	}
	answered := make(chan answer, 1)
	c.waits[stream] = answered
	return answered, nil
}

func (c *Client) forget(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waits, stream)
}
