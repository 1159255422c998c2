package grpc

import (
	"context"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/hachi-run/hachi/shim/status"
)

// stream is one call on a connection (RFC 9113, 5).
type stream struct {
	conn  *conn
	id    uint32        // set once, with conn.mu held; 0 before the request is sent
	ready chan struct{} // has a token when there may be something new

	// All below is guarded by conn.mu.
	err     error // why there is no more
	counted bool  // it is one of those that the server's limit counts
	window  int64 // what may be sent
	unread  int64 // what the server may send; at most receiveWindow
	pending []byte
	head    *header // the reply's headers
	tail    *header // the trailers; where the headers end the reply, nil
	sent    bool    // our side is closed
	ended   bool    // the server's side is closed
}

// wake has the call look again; conn.mu is held.
func (s *stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// fail ends the call with an error, unless all of the reply is here; conn.mu is held.
func (s *stream) fail(err error) {
	if s.err == nil && !s.ended {
		s.err = err
		s.wake()
	}
}

// await calls done, with conn.mu held, until it is true. The error is that of the stream, or of ctx.
func (s *stream) await(ctx context.Context, done func() bool) error {
	for {
		// A timer may be late, but then the server's word that it gave up does not tell why.
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
			return status.Of(context.DeadlineExceeded)
		}
		if err := ctx.Err(); err != nil {
			return status.Of(err)
		}
		s.conn.mu.Lock()
		err := s.err
		stop := err != nil || done()
		s.conn.mu.Unlock()
		if stop {
			return err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
		}
	}
}

// send sends the request, in as many frames as the server's windows and limits demand.
func (s *stream) send(ctx context.Context, fields []hpack.HeaderField, body []byte) error {
	c := s.conn
	err := s.await(ctx, func() bool {
		s.counted = c.room > 0
		if s.counted {
			c.room--
		}
		return s.counted
	})
	if err != nil {
		return err
	}
	sent, err := s.open(fields, body)
	if err != nil {
		return err
	}
	for body = body[sent:]; len(body) > 0; body = body[sent:] {
		err := s.await(ctx, func() bool {
			sent = s.take(len(body))
			return sent > 0 || s.ended // a server that has answered need not read the rest
		})
		if err != nil || sent == 0 {
			return err
		}
		if err := c.write(appendData(nil, s.id, body[:sent], sent == len(body))); err != nil {
			return err
		}
	}
	return nil
}

// open sends the headers and as much of the body as it may in one go: most often all. Ids must come in order
// (RFC 9113, 5.1.1), and so must header blocks, so it holds the lock of writing.
func (s *stream) open(fields []hpack.HeaderField, body []byte) (sent int, err error) {
	c := s.conn
	c.writing.Lock()
	frames, sent, err := s.opening(fields, body)
	if err != nil {
		c.writing.Unlock()
		return 0, err
	}
	err = c.flush(frames)
	c.writing.Unlock()
	return sent, c.check(err)
}

// opening gives the stream its id and returns its first frames; conn.writing is held.
func (s *stream) opening(fields []hpack.HeaderField, body []byte) ([]byte, int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next > lastStream {
		c.draining = true
		s.fail(status.Errorf(status.Unavailable, "the connection has no more streams"))
	}
	if s.err != nil {
		return nil, 0, s.err
	}
	s.id, s.window = c.next, c.initial
	c.next += 2
	c.opened = s.id
	c.streams[s.id] = s
	sent := s.take(len(body))
	return appendData(c.appendHeaders(nil, s.id, fields), s.id, body[:sent], sent == len(body)), sent, nil
}

// take is how much of the n bytes that are left is sent now; conn.mu is held.
func (s *stream) take(n int) int {
	k := max(0, min(int64(n), s.window, s.conn.window, maxFrame))
	s.window -= k
	s.conn.window -= k
	s.sent = int(k) == n
	return int(k)
}

// appendData adds a DATA frame, or nothing where there are no data and more are to come.
func appendData(b []byte, stream uint32, data []byte, last bool) []byte {
	switch {
	case last:
		return appendFrame(b, kindData, flagEndStream, stream, data...)
	case len(data) > 0:
		return appendFrame(b, kindData, 0, stream, data...)
	}
	return b
}

// receive waits for data and returns what there is, or nothing at the end of the reply. It keeps spare for the data to come,
// and gives the server its window back when half of it is used (RFC 9113, 5.2).
func (s *stream) receive(ctx context.Context, spare []byte) ([]byte, error) {
	for data := spare; ; {
		back, ended := int64(0), false
		err := s.await(ctx, func() bool {
			data, s.pending = s.pending, data[:0]
			if ended = s.ended; !ended && s.unread <= receiveWindow/2 {
				back, s.unread = receiveWindow-s.unread, receiveWindow
			}
			return len(data) > 0 || back > 0 || ended
		})
		if err == nil && back > 0 {
			err = s.conn.write(appendNumbers(nil, kindWindow, s.id, uint32(back)))
		}
		if err != nil || len(data) > 0 || ended {
			return data, err
		}
	}
}

// close ends the call, on the server's side too if it has not ended there, and makes room for another one.
func (s *stream) close() {
	c := s.conn
	c.mu.Lock()
	reset := s.id != 0 && c.err == nil && (!s.sent || !s.ended)
	c.mu.Unlock()
	if reset { // first of all: the next stream must not be one too many
		_ = c.write(appendNumbers(nil, kindReset, s.id, uint32(cancel)))
	}
	c.mu.Lock()
	delete(c.calls, s)
	delete(c.streams, s.id)
	if s.counted {
		c.room++
	}
	if len(c.calls) > len(c.streams) { // some wait for room
		c.wakeAll()
	}
	last := len(c.calls) == 0
	drained := last && c.draining
	if last && c.err == nil {
		c.timer.Reset(c.idle)
	}
	c.mu.Unlock()
	if drained {
		c.fail(errDrained)
	}
}
