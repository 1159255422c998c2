package exchange

import (
	"bytes"
	"strconv"
	"strings"
)

// longestHead is how long the head of an answer may be to be understood, in bytes.
const longestHead = 64 << 10

// http1 follows the answers of an HTTP/1 server (RFC 9112). Requests matter little: an answer's end is also the end of
// what was asked, unless the client sends requests ahead, which browsers and libraries do not.
type http1 struct {
	busy   bool   // since a request's first byte, until its answer's last
	bare   bool   // the request is a HEAD, whose answer has no body
	state  state  // of the answer
	head   []byte // the head so far, or a line of a chunked body
	remain uint64 // of a body or a chunk
}

type state uint8

const (
	inHead state = iota
	inBody
	inChunkSize
	inChunk
	inTrailer
	toTheEnd // the answer ends with the connection
)

func (h *http1) client(b []byte) {
	if !h.busy && len(b) > 0 {
		h.busy = true
		h.bare = bytes.HasPrefix(b, []byte("HEAD "))
	}
}

// server returns false when it does not understand.
func (h *http1) server(b []byte) bool {
	for len(b) > 0 {
		h.busy = true
		switch h.state {
		case inHead:
			rest, ok := h.take(b, "\r\n\r\n")
			if !ok {
				return len(h.head) < longestHead
			}
			b = rest
			if !h.answer(string(h.head)) {
				return false
			}
			h.head = h.head[:0]
		case inBody, inChunk:
			n := min(h.remain, uint64(len(b)))
			b, h.remain = b[n:], h.remain-n
			if h.remain == 0 && h.state == inBody {
				h.done()
			} else if h.remain == 0 {
				h.state = inChunkSize
			}
		case inChunkSize, inTrailer:
			rest, ok := h.take(b, "\r\n")
			if !ok {
				return len(h.head) < longestHead
			}
			b = rest
			line := strings.TrimSuffix(string(h.head), "\r\n")
			h.head = h.head[:0]
			if !h.line(line) {
				return false
			}
		case toTheEnd:
			return true
		}
	}
	return true
}

// take moves bytes to head up to the first end, and says whether that has come.
func (h *http1) take(b []byte, end string) (rest []byte, ok bool) {
	from := max(0, len(h.head)-len(end)+1)
	before := len(h.head)
	h.head = append(h.head, b[:min(len(b), longestHead)]...)
	i := bytes.Index(h.head[from:], []byte(end))
	if i < 0 {
		return nil, false
	}
	size := from + i + len(end)
	h.head = h.head[:size]
	return b[size-before:], true
}

// answer reads a head.
func (h *http1) answer(head string) bool {
	first, fields, _ := strings.Cut(head, "\r\n")
	version, status, _ := strings.Cut(first, " ")
	status, _, _ = strings.Cut(status, " ")
	code, err := strconv.Atoi(status)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || code == 101 {
		return false // what comes after "switching protocols" is another protocol
	}
	if code < 200 {
		return true // the real answer is to come
	}
	h.state = toTheEnd
	for field := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(field, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "Transfer-Encoding") && strings.EqualFold(value, "chunked"):
			h.state = inChunkSize
		case strings.EqualFold(name, "Content-Length") && h.state == toTheEnd:
			if h.remain, err = strconv.ParseUint(value, 10, 63); err != nil {
				return false
			}
			h.state = inBody
		}
	}
	if h.bare || code == 204 || code == 304 || h.state == inBody && h.remain == 0 {
		h.done()
	}
	return true
}

// line reads a line of a chunked body: the size of a chunk, the empty line behind one, or a trailer.
func (h *http1) line(s string) bool {
	switch {
	case h.state == inTrailer && s == "":
		h.done()
	case h.state == inTrailer, s == "":
	default:
		size, _, _ := strings.Cut(s, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 63)
		switch {
		case err != nil:
			return false
		case n == 0:
			h.state = inTrailer
		default:
			h.state, h.remain = inChunk, n
		}
	}
	return true
}

func (h *http1) done() { h.busy, h.bare, h.state, h.remain = false, false, inHead, 0 }
