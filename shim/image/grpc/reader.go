package grpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/net/http2/hpack"

	"github.com/hachi-run/hachi/shim/status"
)

// reader is the reading side of a connection.
type reader struct {
	*conn
	in      *bufio.Reader
	decoder *hpack.Decoder
	unread  int64 // what the server may send on all streams together

	// The header block of which CONTINUATION is to come (RFC 9113, 4.3); stream 0 if there is none.
	block  []byte
	stream uint32
	last   bool // it ends the stream
}

// read reads the server's frames until the connection ends.
func (c *conn) read() {
	r := &reader{conn: c, in: bufio.NewReaderSize(c.socket, frameHead+maxFrame), decoder: hpack.NewDecoder(tableSize, nil), unread: maxWindow}
	err := r.all()
	var v *violation
	switch {
	case errors.As(err, &v):
		c.accuse(v)
	case errors.Is(err, io.EOF):
		c.fail(status.Errorf(status.Unavailable, "the server closed the connection"))
	default:
		c.fail(status.Errorf(status.Unavailable, "%v", err))
	}
}

func (r *reader) all() error {
	for first := true; ; first = false {
		f, err := readFrame(r.in)
		if err == nil && first && (f.kind != kindSettings || f.flags&flagAck != 0) {
			err = violated(protocolError, "the connection begins with a %v frame", f.kind)
		}
		if err == nil {
			err = r.frame(f)
		}
		if err != nil {
			return err
		}
	}
}

// frame takes a frame. Those without use here and those of unknown types are passed over (RFC 9113, 5.3 and 5.5).
func (r *reader) frame(f frame) error {
	if (r.stream != 0 || f.kind == kindContinuation) && (f.kind != kindContinuation || f.stream != r.stream) {
		return violated(protocolError, "a %v frame on stream %d out of place: the header block of stream %d goes on", f.kind, f.stream, r.stream)
	}
	switch f.kind {
	case kindData:
		return r.data(f)
	case kindHeaders, kindContinuation:
		return r.headers(f)
	case kindReset:
		return r.reset(f)
	case kindSettings:
		return r.settings(f)
	case kindPush:
		return violated(protocolError, "a %v frame, which our settings forbid", f.kind)
	case kindPing:
		return r.ping(f)
	case kindGoAway:
		return r.goAway(f)
	case kindWindow:
		return r.windowUpdate(f)
	}
	return nil
}

// expect checks a frame's size, and that it is about the whole connection where it must be.
func (f frame) expect(size int, connection bool) error {
	if len(f.payload) != size {
		return violated(frameSizeError, "%v frame of %d bytes instead of %d", f.kind, len(f.payload), size)
	}
	if connection && f.stream != 0 {
		return violated(protocolError, "%v frame on stream %d", f.kind, f.stream)
	}
	return nil
}

// find returns a frame's stream, or nil if its call has ended here; conn.mu is held.
func (r *reader) find(f frame) (*stream, error) {
	if f.stream%2 == 0 || f.stream > r.opened {
		return nil, violated(protocolError, "%v frame on stream %d, which was not opened", f.kind, f.stream)
	}
	s := r.streams[f.stream]
	if s != nil && s.ended && (f.kind == kindData || f.kind == kindHeaders || f.kind == kindContinuation) {
		return nil, violated(streamClosed, "%v frame on stream %d, which the server had ended", f.kind, f.stream)
	}
	return s, nil
}

// data keeps data for the call (RFC 9113, 6.1).
func (r *reader) data(f frame) error {
	data, err := f.content()
	if err != nil {
		return err
	}
	if err := r.keep(f, data); err != nil {
		return err
	}
	if r.unread -= int64(len(f.payload)); r.unread > maxWindow/2 {
		return nil
	}
	back := maxWindow - r.unread
	r.unread = maxWindow
	return r.write(appendNumbers(nil, kindWindow, 0, uint32(back)))
}

func (r *reader) keep(f frame, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.find(f)
	if s == nil {
		return err
	}
	if s.unread -= int64(len(f.payload)); s.unread < 0 {
		return violated(flowControlError, "%d bytes too many on stream %d", -s.unread, s.id)
	}
	if s.head == nil {
		s.fail(status.Errorf(status.Internal, "malformed reply: data before its headers"))
		return nil
	}
	if s.err == nil {
		s.pending = append(s.pending, data...)
	}
	s.ended = f.flags&flagEndStream != 0
	s.wake()
	return nil
}

// headers collects a header block, which is of use only when all of it is there (RFC 9113, 6.2 and 6.10).
func (r *reader) headers(f frame) error {
	fragment := f.payload
	if f.kind == kindHeaders {
		var err error
		if fragment, err = f.content(); err != nil {
			return err
		}
		r.stream, r.last, r.block = f.stream, f.flags&flagEndStream != 0, r.block[:0]
	}
	if len(r.block)+len(fragment) > maxHeader {
		return violated(enhanceYourCalm, "a header block of more than %d bytes", maxHeader)
	}
	r.block = append(r.block, fragment...)
	if f.flags&flagEndHeaders == 0 {
		return nil
	}
	r.stream = 0
	h := new(header)
	r.decoder.SetEmitFunc(h.add)
	_, err := r.decoder.Write(r.block)
	if err == nil {
		err = r.decoder.Close()
	}
	if err != nil {
		return violated(compressionError, "a header block: %v", err)
	}
	return r.answer(f, h)
}

// answer gives a call its headers or trailers (RFC 9113, 8.1).
func (r *reader) answer(f frame, h *header) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.find(f)
	if s == nil {
		return err
	}
	trailers := s.head != nil
	switch {
	case h.wrong != "":
		s.fail(status.Errorf(status.Internal, "malformed headers: %s", h.wrong))
	case trailers != (h.code == 0):
		s.fail(status.Errorf(status.Internal, "malformed headers: HTTP status %d", h.code))
	case trailers && !r.last:
		s.fail(status.Errorf(status.Internal, "malformed reply: it goes on after its trailers"))
	case trailers:
		s.tail = h
	case h.code >= 200:
		s.head = h
	case r.last:
		s.fail(status.Errorf(status.Internal, "malformed reply: it ends with HTTP status %d", h.code))
	}
	s.ended = r.last
	s.wake()
	return nil
}

// reset ends a call (RFC 9113, 6.4). A server that has answered may do it for the rest of the request (8.1).
func (r *reader) reset(f frame) error {
	if err := f.expect(4, false); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.find(f)
	if s == nil {
		return err
	}
	why := reason(binary.BigEndian.Uint32(f.payload))
	s.fail(status.Errorf(why.code(), "the server ended the call: %v", why))
	s.sent, s.ended = true, true
	s.wake()
	return nil
}

// settings takes the server's settings and acknowledges them (RFC 9113, 6.5).
func (r *reader) settings(f frame) error {
	if f.flags&flagAck != 0 {
		return f.expect(0, true)
	}
	if err := f.expect(len(f.payload)/6*6, true); err != nil {
		return err
	}
	r.mu.Lock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := r.set(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			r.mu.Unlock()
			return err
		}
	}
	r.wakeAll()
	r.mu.Unlock()
	return r.write(appendFrame(nil, kindSettings, flagAck, 0))
}

// set takes one setting; conn.mu is held.
func (r *reader) set(id uint16, value uint32) error {
	switch id {
	case settingPush:
		if value != 0 {
			return violated(protocolError, "setting ENABLE_PUSH is %d", value)
		}
	case settingStreams:
		r.room += int64(value) - r.limit
		r.limit = int64(value)
	case settingWindow:
		if value > maxWindow {
			return violated(flowControlError, "setting INITIAL_WINDOW_SIZE is %d", value)
		}
		for _, s := range r.streams {
			if s.window += int64(value) - r.initial; s.window > maxWindow {
				return violated(flowControlError, "setting INITIAL_WINDOW_SIZE of %d lets the window of stream %d overflow", value, s.id)
			}
		}
		r.initial = int64(value)
	case settingFrame: // we stay with the smallest
		if value < maxFrame || value >= 1<<24 {
			return violated(protocolError, "setting MAX_FRAME_SIZE is %d", value)
		}
	}
	return nil
}

// ping answers (RFC 9113, 6.7).
func (r *reader) ping(f frame) error {
	if err := f.expect(8, true); err != nil || f.flags&flagAck != 0 {
		return err
	}
	return r.write(appendFrame(nil, kindPing, flagAck, 0, f.payload...))
}

// goAway lets calls finish that the server has begun with (RFC 9113, 6.8).
func (r *reader) goAway(f frame) error {
	if err := f.expect(max(8, len(f.payload)), true); err != nil {
		return err
	}
	last := binary.BigEndian.Uint32(f.payload) &^ (1 << 31)
	why := reason(binary.BigEndian.Uint32(f.payload[4:]))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for s := range r.calls {
		if s.id == 0 || s.id > last {
			s.fail(status.Errorf(status.Unavailable, "the server is going away: %v %.100q", why, f.payload[8:]))
		}
	}
	if len(r.calls) == 0 {
		return errDrained
	}
	return nil
}

// windowUpdate lets calls send more (RFC 9113, 6.9).
func (r *reader) windowUpdate(f frame) error {
	if err := f.expect(4, false); err != nil {
		return err
	}
	more := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	r.mu.Lock()
	defer r.mu.Unlock()
	window := &r.window
	if f.stream != 0 {
		s, err := r.find(f)
		if s == nil {
			return err
		}
		window = &s.window
	}
	if *window += more; more == 0 || *window > maxWindow {
		return violated(flowControlError, "%v of %d on stream %d, whose window is %d", f.kind, more, f.stream, *window)
	}
	r.wakeAll()
	return nil
}
