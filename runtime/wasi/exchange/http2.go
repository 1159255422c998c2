package exchange

import "encoding/binary"

// Frames of HTTP/2 that begin or end a stream (RFC 9113, section 6), and their flag for the end.
const (
	frameData    = 0
	frameHeaders = 1
	frameReset   = 3
	endStream    = 1
	frameHead    = 9
)

// mostStreams bounds what is remembered of a connection. Servers admit fewer.
const mostStreams = 10_000

// http2 counts the streams that a client has opened and the server has not ended.
type http2 struct {
	client, server frames
	open           map[uint32]bool
	last           uint32 // the client's newest stream; their numbers rise
	lost           bool   // too many streams
}

// frames cuts one direction into frames.
type frames struct {
	head [frameHead]byte
	have int    // bytes of head
	skip uint32 // bytes of the present frame's body that are to come
}

// read calls f for each frame that begins in b.
func (f *frames) read(b []byte, begin func(kind, flags byte, stream uint32)) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, uint32(min(len(b), 1<<30)))
			f.skip -= n
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have == frameHead {
			f.have = 0
			f.skip = uint32(f.head[0])<<16 | uint32(f.head[1])<<8 | uint32(f.head[2])
			begin(f.head[3], f.head[4], binary.BigEndian.Uint32(f.head[5:])&^(1<<31))
		}
	}
}

func (h *http2) fromClient(kind, _ byte, stream uint32) {
	switch kind {
	case frameHeaders:
		if stream <= h.last {
			return // what follows a request's body
		}
		h.last = stream
		if h.open == nil {
			h.open = map[uint32]bool{}
		}
		h.open[stream] = true
		h.lost = h.lost || len(h.open) > mostStreams
	case frameReset:
		delete(h.open, stream)
	}
}

func (h *http2) fromServer(kind, flags byte, stream uint32) {
	if kind == frameReset || (kind == frameData || kind == frameHeaders) && flags&endStream != 0 {
		delete(h.open, stream)
	}
}
