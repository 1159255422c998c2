package grpc

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/hachi-run/hachi/shim/status"
)

const (
	// MaxMessage is the longest message of a reply, in bytes: containerd's own limit.
	MaxMessage = 16 << 20

	messageHead = 5
)

// Call asks with one message and gives each the messages of the reply, whose bytes are valid until it returns. method is a
// service and its method, for example "containerd.services.images.v1.Images/Get". It waits for a server that is away, so ctx
// should have a deadline.
//
// Errors are each's own, ErrClosed, or a *status.Error: the server's, with its details; DeadlineExceeded or Canceled where ctx
// ended; Unavailable where the connection broke; ResourceExhausted for a message of more than MaxMessage; Internal for a reply
// that is malformed; or what HTTP means by its status where something else than gRPC answers.
func (c *Client) Call(ctx context.Context, method string, request []byte, each func(reply []byte) error) error {
	s, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	body := binary.BigEndian.AppendUint32(make([]byte, 1, messageHead+len(request)), uint32(len(request)))
	if err := s.send(ctx, c.fields(ctx, method), append(body, request...)); err != nil {
		return err
	}
	if err := s.await(ctx, func() bool { return s.head != nil }); err != nil {
		return err
	}
	switch h := s.head; {
	case h.status != "": // nothing follows ("Trailers-Only")
		return h.verdict()
	case h.code != 200 || !strings.HasPrefix(h.contentType, contentType):
		return status.Errorf(httpCode(h.code), "HTTP status %d with content type %q instead of gRPC", h.code, h.contentType)
	}
	var messages splitter
	for data := []byte(nil); ; {
		if data, err = s.receive(ctx, data); err != nil {
			return err
		}
		if len(data) == 0 {
			break
		}
		if err := messages.add(data, each); err != nil {
			return err
		}
	}
	if len(messages.part) > 0 {
		return status.Errorf(status.Internal, "the reply ends within a message")
	}
	return s.tail.verdict()
}

// splitter finds the messages in a reply ("Length-Prefixed-Message").
type splitter struct {
	part []byte // of a message that is not whole yet
}

// add takes data and gives each the messages that are whole.
func (p *splitter) add(data []byte, each func([]byte) error) error {
	if len(p.part) > 0 {
		p.part = append(p.part, data...)
		data = p.part
	}
	used := 0
	for {
		message, whole, err := first(data[used:])
		if err == nil && whole {
			err = each(message)
		}
		if err != nil {
			return err
		}
		if !whole {
			break
		}
		used += messageHead + len(message)
	}
	if used > 0 || len(p.part) == 0 {
		p.part = append(p.part[:0], data[used:]...)
	}
	return nil
}

// first is the first message of data, and whether all of it is there.
func first(data []byte) (message []byte, whole bool, err error) {
	if len(data) < messageHead {
		return nil, false, nil
	}
	size := binary.BigEndian.Uint32(data[1:])
	if data[0] != 0 {
		return nil, false, status.Errorf(status.Internal, "received message with flags %#x: compression was not asked for", data[0])
	}
	if size > MaxMessage {
		return nil, false, status.Errorf(status.ResourceExhausted, "received message larger than max (%d vs. %d)", size, MaxMessage)
	}
	if data = data[messageHead:]; len(data) < int(size) {
		return nil, false, nil
	}
	return data[:size], true, nil
}
