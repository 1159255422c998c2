package grpc

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	// maxHeader bounds the headers of a reply, in bytes with the overhead of RFC 9113, 6.5.2, and a header block as it is sent.
	maxHeader = 64 << 10
	// tableSize is what the server's encoder may remember: the default (RFC 9113, 6.5.2).
	tableSize = 4096

	contentType = "application/grpc"
	// maxTimeout is the longest grpc-timeout: it has at most eight digits.
	maxTimeout = 99_999_999 * time.Millisecond
)

// header is what a call reads of a reply's headers or trailers.
type header struct {
	code                     int // the HTTP status; 0 in trailers
	contentType              string
	status, message, details string // grpc-status and so on

	size    int
	regular bool // a field that is no pseudo-header was seen
	// wrong says what makes it malformed; empty if nothing does.
	wrong string
}

// add reads a field (RFC 9113, 8.3).
func (h *header) add(f hpack.HeaderField) {
	if h.size += int(f.Size()); h.size > maxHeader {
		h.wrong = fmt.Sprintf("more than %d bytes", maxHeader)
		return
	}
	if f.IsPseudo() {
		code, err := strconv.ParseUint(f.Value, 10, 16)
		if f.Name != ":status" || h.code != 0 || h.regular || err != nil || code < 100 || code > 999 {
			h.wrong = fmt.Sprintf("unexpected %.40q with value %.40q", f.Name, f.Value)
			return
		}
		h.code = int(code)
		return
	}
	h.regular = true
	switch f.Name {
	case "content-type":
		h.contentType = f.Value
	case "grpc-status":
		h.status = f.Value
	case "grpc-message":
		h.message = f.Value
	case "grpc-status-details-bin":
		h.details = f.Value
	}
}

// fields are the headers of a request.
func (c *Client) fields(ctx context.Context, method string) []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/" + method},
		{Name: ":authority", Value: "localhost"},
		{Name: "content-type", Value: contentType},
		{Name: "te", Value: "trailers"},
	}
	if end, ok := ctx.Deadline(); ok {
		// Rounded up, so that the server is not the first to give up.
		left := min(max(0, time.Until(end))+time.Millisecond, maxTimeout)
		fields = append(fields, hpack.HeaderField{Name: "grpc-timeout", Value: strconv.FormatInt(left.Milliseconds(), 10) + "m"})
	}
	for name, value := range c.Metadata {
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	return fields
}

// appendHeaders adds a header block's frames to b (RFC 9113, 4.3); c.writing is held.
func (c *conn) appendHeaders(b []byte, stream uint32, fields []hpack.HeaderField) []byte {
	c.block.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(f) // to a buffer, which takes everything
	}
	k, block := kindHeaders, c.block.Bytes()
	for len(block) > maxFrame {
		b = appendFrame(b, k, 0, stream, block[:maxFrame]...)
		k, block = kindContinuation, block[maxFrame:]
	}
	return appendFrame(b, k, flagEndHeaders, stream, block...)
}
