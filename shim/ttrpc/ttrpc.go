// Package ttrpc speaks containerd's protocol between its daemon and shims: requests and their answers over a stream
// socket, one message each (github.com/containerd/ttrpc, PROTOCOL.md). Streams of messages are not served; no service of a
// shim has any. Why it is not containerd's own package: docs/rationale/server.md.
package ttrpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/status/statuspb"
)

// Message is a protobuf message, as protoc-gen-go-lite generates it.
type Message interface {
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
}

const (
	headerSize = 10
	// maxMessage is the protocol's own limit, in bytes.
	maxMessage = 4 << 20
	// readBuffer is enough for most requests, in bytes; larger ones are read past it.
	readBuffer = 1 << 10
)

// kind says what a frame holds.
type kind uint8

const (
	kindRequest  kind = 1
	kindResponse kind = 2
	kindData     kind = 3
)

// frame is one message of a connection.
type frame struct {
	stream uint32
	kind   kind
	body   []byte
}

// errTooLarge is what recv returns for a message above the limit, with a frame that tells the stream. The connection goes on.
var errTooLarge = errors.New("message is too large")

// link reads and writes the frames of a connection. One goroutine may read; any may write.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // held while a frame is written
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, r: bufio.NewReaderSize(conn, readBuffer)}
}

// recv reads a frame. At the end of the connection the error is io.EOF.
func (l *link) recv() (frame, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[0:])
	f := frame{stream: binary.BigEndian.Uint32(head[4:]), kind: kind(head[8])}
	if size > maxMessage {
		if _, err := io.CopyN(io.Discard, l.r, int64(size)); err != nil {
			return frame{}, err
		}
		return f, fmt.Errorf("%w: %d bytes, and the limit is %d", errTooLarge, size, maxMessage)
	}
	f.body = make([]byte, size)
	_, err := io.ReadFull(l.r, f.body)
	if errors.Is(err, io.EOF) { // a header without its message
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

// send writes a message as one frame.
func (l *link) send(stream uint32, k kind, m interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}) error {
	size := m.SizeVT()
	if size > maxMessage {
		return status.Errorf(status.ResourceExhausted, "%v: %d bytes, and the limit is %d", errTooLarge, size, maxMessage)
	}
	b := make([]byte, headerSize+size)
	binary.BigEndian.PutUint32(b[0:], uint32(size))
	binary.BigEndian.PutUint32(b[4:], stream)
	b[8] = byte(k)
	if _, err := m.MarshalToSizedBufferVT(b[headerSize:]); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.conn.Write(b)
	return err
}

// encode makes the status of a reply of an error; nil for nil.
func encode(err error) *statuspb.Status {
	e := status.Of(err)
	if e == nil {
		return nil
	}
	// A message that is no UTF-8 would cost the whole answer.
	return &statuspb.Status{Code: int32(e.Code), Message: strings.ToValidUTF8(e.Message, "\uFFFD"), Details: e.Details}
}

// decode makes an error of a reply's status.
func decode(s *statuspb.Status) error {
	if s.GetCode() == int32(status.OK) {
		return nil
	}
	return &status.Error{Code: status.Code(s.Code), Message: s.Message, Details: s.Details}
}
