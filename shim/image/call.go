package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// maxReply is containerd's own limit for a message.
	maxReply = 16 << 20

	contentType = "application/grpc"
	statusKey   = "Grpc-Status"
)

// call asks containerd with one message and gives each the messages of the reply; their bytes are valid until each returns.
// Errors are each's own, errClosed, or carry a gRPC status.
//
// This is what containerd's services need of gRPC over HTTP/2 (grpc.io, PROTOCOL-HTTP2.md). Why it is not
// google.golang.org/grpc: docs/rationale/server.md.
func (s *Source) call(ctx context.Context, method string, message []byte, each func([]byte) error) error {
	frame := binary.BigEndian.AppendUint32(make([]byte, 1, 5+len(message)), uint32(len(message)))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/containerd.services."+method, bytes.NewReader(append(frame, message...)))
	if err != nil {
		return err
	}
	r.Header = http.Header{"Content-Type": {contentType}, "Te": {"trailers"}, "Containerd-Namespace": {s.Namespace}}
	if end, ok := ctx.Deadline(); ok {
		r.Header["Grpc-Timeout"] = []string{strconv.FormatInt(max(1, time.Until(end).Milliseconds()), 10) + "m"}
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	reply, err := conn.RoundTrip(r)
	if err != nil {
		return broken(ctx, nil, err)
	}
	defer reply.Body.Close()
	if reply.Header.Get(statusKey) != "" { // nothing follows
		return verdict(reply.Header)
	}
	if kind := reply.Header.Get("Content-Type"); reply.StatusCode != http.StatusOK || !strings.HasPrefix(kind, contentType) {
		return status.Errorf(httpCode(reply.StatusCode), "HTTP status %s with content type %q instead of gRPC", reply.Status, kind)
	}
	for buffer := []byte(nil); ; {
		buffer, err = readMessage(ctx, reply, buffer)
		switch {
		case err == nil:
			err = each(buffer)
		case errors.Is(err, io.EOF):
			return verdict(reply.Trailer)
		}
		if err != nil {
			return err
		}
	}
}

// readMessage reads a message into buffer or a larger one. The error is EOF where the reply ends before it.
func readMessage(ctx context.Context, reply *http.Response, buffer []byte) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(reply.Body, head[:]); errors.Is(err, io.EOF) {
		return nil, err
	} else if err != nil {
		return nil, broken(ctx, reply.Trailer, err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 {
		return nil, status.Errorf(codes.Internal, "received message with flags %#x: compression was not asked for", head[0])
	}
	if size > maxReply {
		return nil, status.Errorf(codes.ResourceExhausted, "received message larger than max (%d vs. %d)", size, maxReply)
	}
	buffer = slices.Grow(buffer[:0], int(size))[:size]
	if _, err := io.ReadFull(reply.Body, buffer); err != nil {
		return nil, broken(ctx, reply.Trailer, err)
	}
	return buffer, nil
}

// verdict is the error that the end of a reply tells.
func verdict(h http.Header) error {
	code, err := strconv.ParseUint(h.Get(statusKey), 10, 31)
	if err != nil {
		return status.Errorf(codes.Internal, "the reply ends with grpc-status %q", h.Get(statusKey))
	}
	if code == 0 {
		return nil
	}
	text := h.Get("Grpc-Message")
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	st := status.New(codes.Code(code), text).Proto()
	// The details tell of errors that containerd joined; without them the first one is known.
	if details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(h.Get("Grpc-Status-Details-Bin"), "=")); err == nil {
		_ = proto.UnmarshalOptions{Merge: true}.Unmarshal(details, st)
		st.Code, st.Message = int32(code), text
	}
	return status.ErrorProto(st)
}

// broken is the error of a reply that ends too early: its context ended, or the connection, or what was sent is wrong.
func broken(ctx context.Context, trailer http.Header, err error) error {
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case len(trailer) > 0:
		return status.Error(codes.Internal, "the reply ends within a message")
	}
	return status.Error(codes.Unavailable, err.Error())
}

// httpCode is what an answer from something else than a gRPC server means (grpc.io, http-grpc-status-mapping.md).
func httpCode(code int) codes.Code {
	switch code {
	case http.StatusNotFound:
		return codes.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	}
	return codes.Unknown
}
