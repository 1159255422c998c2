package grpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/hachi-run/hachi/shim/status"
)

// block is a header block of names and values.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func headers(flags uint8, fields ...string) []byte {
	return appendFrame(nil, kindHeaders, flags|flagEndHeaders, 1, block(fields...)...)
}

func data(flags uint8, text string) []byte {
	return appendFrame(nil, kindData, flags, 1, []byte(text)...)
}

// message is one of a reply.
func message(text string) string {
	return string(binary.BigEndian.AppendUint32(make([]byte, 1), uint32(len(text)))) + text
}

func settings(values ...uint32) []byte {
	var b []byte
	for i := 0; i < len(values); i += 2 {
		b = appendSetting(b, uint16(values[i]), values[i+1])
	}
	return appendFrame(nil, kindSettings, 0, 0, b...)
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

var (
	hello = settings()
	begin = headers(0, ":status", "200", "content-type", "application/grpc+proto")
	ok    = headers(flagEndStream, "grpc-status", "0")
)

// script is a server that sends first when it is connected to, then when the request has come, and reads on to the end.
func script(t testing.TB, first, then []byte) (c *Client, received func() []frame) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "p.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c = &Client{Path: l.Addr().String()}
	var frames []frame
	var wait sync.WaitGroup
	wait.Go(func() {
		socket, err := l.Accept()
		if err != nil {
			return
		}
		defer socket.Close()
		in := bufio.NewReaderSize(socket, frameHead+maxFrame)
		if _, err := in.Discard(len(preface)); err != nil {
			return
		}
		socket.Write(first)
		for {
			f, err := readFrame(in)
			if err != nil {
				return
			}
			f.payload = bytes.Clone(f.payload)
			frames = append(frames, f)
			if f.kind == kindData && f.flags&flagEndStream != 0 {
				socket.Write(then)
			}
		}
	})
	received = sync.OnceValue(func() []frame {
		c.Close()
		l.Close()
		wait.Wait()
		return frames
	})
	t.Cleanup(func() { received() })
	return c, received
}

// collect makes a call and joins its replies.
func collect(ctx context.Context, c *Client) (got string, err error) {
	var all []string
	err = c.Call(ctx, "a/b", []byte("request"), func(m []byte) error {
		all = append(all, string(m))
		return nil
	})
	return strings.Join(all, "|"), err
}

func TestReplies(t *testing.T) {
	alone := func(fields ...string) []byte {
		return headers(flagEndStream, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
	}
	body := func(text string) []byte { return join(begin, data(0, text), ok) }
	var bytewise []byte
	for _, b := range []byte(message("one") + message("") + message("three")) {
		bytewise = append(bytewise, data(0, string(b))...)
	}
	long := block("grpc-status", "9", "grpc-message", strings.Repeat("x", 40_000))
	for _, tc := range []struct {
		name string
		then []byte
		got  string
		code status.Code
		says string
	}{
		{"one message", body(message("one")), "one", status.OK, ""},
		{"several messages", body(message("one") + message("") + message("three")), "one||three", status.OK, ""},
		{"messages byte by byte", join(begin, bytewise, ok), "one||three", status.OK, ""},
		{"no message", body(""), "", status.OK, ""},
		{"padding", join(begin, data(flagPadded, "\x03"+message("one")+"\x00\x00\x00"), data(flagPadded, "\x00"), ok), "one", status.OK, ""},
		{"padded headers with a priority", join(
			appendFrame(nil, kindHeaders, flagPadded|flagPriority|flagEndHeaders, 1, join([]byte("\x02\x00\x00\x00\x00\x10"), begin[frameHead:], []byte{0, 0})...),
			data(0, message("one")), ok), "one", status.OK, ""},
		{"headers in pieces", join(
			appendFrame(nil, kindHeaders, 0, 1, begin[frameHead:frameHead+1]...), appendFrame(nil, kindContinuation, 0, 1),
			appendFrame(nil, kindContinuation, flagEndHeaders, 1, begin[frameHead+1:]...), ok), "", status.OK, ""},
		{"long trailers", join(begin, appendFrame(nil, kindHeaders, flagEndStream, 1, long[:maxFrame]...), appendFrame(nil, kindContinuation, 0, 1, long[maxFrame:2*maxFrame]...),
			appendFrame(nil, kindContinuation, flagEndHeaders, 1, long[2*maxFrame:]...)),
			"", status.FailedPrecondition, strings.Repeat("x", 40_000)},
		{"frames of no use", join(appendFrame(nil, 0xbe, 0xff, 77, 1, 2, 3), appendFrame(nil, kindPriority, 0, 1, 0, 0, 0, 0, 9), headers(0, ":status", "103", "link", "x"), body(message("one"))),
			"one", status.OK, ""},
		{"the end of a request that was read", join(begin, ok, appendNumbers(nil, kindReset, 1, uint32(noError))), "", status.OK, ""},

		{"an error alone", alone("grpc-status", "5", "grpc-message", "no image"), "", status.NotFound, "no image"},
		{"success alone", alone("grpc-status", "0"), "", status.OK, ""},
		{"an escaped error", alone("grpc-status", "5", "grpc-message", "50%25 of b%C3%BCro+x%0A"), "", status.NotFound, "50% of büro+x\n"},
		{"a badly escaped error", alone("grpc-status", "5", "grpc-message", "50% of %zz it%2"), "", status.NotFound, "50% of %zz it%2"},
		{"an error after a message", join(begin, data(0, message("one")), headers(flagEndStream, "grpc-status", "9", "grpc-message", "broken%3A")), "one", status.FailedPrecondition, "broken:"},
		{"an error without words", alone("grpc-status", "5"), "", status.NotFound, "grpc-status 5"},
		{"an unknown code", alone("grpc-status", "77"), "", status.Unknown, "grpc-status 77"},
		{"details that are no base64", alone("grpc-status", "5", "grpc-message", "none", "grpc-status-details-bin", "!"), "", status.NotFound, "none"},
		{"details that are no message", alone("grpc-status", "5", "grpc-message", "none", "grpc-status-details-bin", "AA"), "", status.NotFound, "none"},
		{"details that contradict", alone("grpc-status", "5", "grpc-message", "none", "grpc-status-details-bin", "CAA="), "", status.NotFound, "none"},

		{"no trailers", join(begin, data(flagEndStream, message("one"))), "one", status.Internal, `grpc-status ""`},
		{"no status", join(begin, headers(flagEndStream, "x", "y")), "", status.Internal, `grpc-status ""`},
		{"a status that is no number", join(begin, headers(flagEndStream, "grpc-status", "x")), "", status.Internal, `grpc-status "x"`},
		{"a negative status", join(begin, headers(flagEndStream, "grpc-status", "-1")), "", status.Internal, `grpc-status "-1"`},
		{"too large a message", body("\x00\x01\x00\x00\x01"), "", status.ResourceExhausted, "larger than max (16777217 vs. 16777216)"},
		{"compression", body("\x01" + message("one")[1:]), "", status.Internal, "compression"},
		{"half a head", body("\x00\x00"), "", status.Internal, "ends within a message"},
		{"a head alone", body("\x00\x00\x00\x00\x05"), "", status.Internal, "ends within a message"},
		{"half a message", body(message("one")[:7]), "", status.Internal, "ends within a message"},

		{"no such page", headers(flagEndStream, ":status", "404"), "", status.Unimplemented, "HTTP status 404"},
		{"a proxy", headers(flagEndStream, ":status", "503"), "", status.Unavailable, "HTTP status 503"},
		{"no gRPC", join(headers(0, ":status", "200", "content-type", "text/plain"), data(0, "hello")), "", status.Unknown, `"text/plain"`},

		{"headers without a status", headers(0, "content-type", "application/grpc"), "", status.Internal, "HTTP status 0"},
		{"two statuses", headers(0, ":status", "200", ":status", "200"), "", status.Internal, `":status"`},
		{"a late status", headers(0, "content-type", "application/grpc", ":status", "200"), "", status.Internal, `":status"`},
		{"a status of two digits", headers(0, ":status", "20"), "", status.Internal, `"20"`},
		{"a header of requests", headers(0, ":status", "200", ":path", "/"), "", status.Internal, `":path"`},
		{"trailers with a status", join(begin, headers(flagEndStream, ":status", "200")), "", status.Internal, "HTTP status 200"},
		{"trailers that end nothing", join(begin, headers(0, "grpc-status", "0")), "", status.Internal, "goes on after its trailers"},
		{"a reply that only announces one", headers(flagEndStream, ":status", "100"), "", status.Internal, "ends with HTTP status 100"},
		{"data before headers", data(0, message("one")), "", status.Internal, "data before its headers"},
		{"headers that are too long", headers(0, append([]string{":status", "200"}, slices.Repeat([]string{"a", ""}, 2000)...)...), "", status.Internal, "more than 65536 bytes"},

		{"a refused call", appendNumbers(nil, kindReset, 1, uint32(refusedStream)), "", status.Unavailable, "REFUSED_STREAM"},
		{"a call that the server gave up", join(begin, appendNumbers(nil, kindReset, 1, uint32(cancel))), "", status.Canceled, "CANCEL"},
		{"too many calls", appendNumbers(nil, kindReset, 1, uint32(enhanceYourCalm)), "", status.ResourceExhausted, "ENHANCE_YOUR_CALM"},
		{"a call that may not be", appendNumbers(nil, kindReset, 1, uint32(inadequateSecurity)), "", status.PermissionDenied, "INADEQUATE_SECURITY"},
		{"a broken call", appendNumbers(nil, kindReset, 1, 99), "", status.Internal, "error 99"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, received := script(t, hello, tc.then)
			got, err := collect(t.Context(), c)
			if got != tc.got {
				t.Errorf("got messages %q, want %q", got, tc.got)
			}
			e := status.Of(err)
			if tc.code == status.OK && err != nil || tc.code != status.OK && (e == nil || e.Code != tc.code || !strings.Contains(e.Message, tc.says)) {
				t.Errorf("got %.200v; want code %d that says %.100q", err, tc.code, tc.says)
			}
			for _, f := range received() {
				if f.kind == kindGoAway {
					t.Errorf("the connection was broken: %q", f.payload)
				}
			}
		})
	}
}

// What breaks HTTP/2 ends the connection, and both sides are told why.
func TestMalformedFrames(t *testing.T) {
	after := func(parts ...[]byte) []byte { return join(append([][]byte{begin}, parts...)...) }
	long := func(k kind, stream uint32) []byte { return []byte{0, 0x40, 1, byte(k), 0, 0, 0, 0, byte(stream)} }
	flood := appendFrame(nil, kindHeaders, 0, 1)
	for range 5 {
		flood = append(flood, appendFrame(nil, kindContinuation, 0, 1, make([]byte, maxFrame)...)...)
	}
	for _, tc := range []struct {
		name  string
		first []byte
		then  []byte
		why   reason
		says  string
	}{
		{"no settings first", appendFrame(nil, kindPing, 0, 0, make([]byte, 8)...), nil, protocolError, "begins with a PING frame"},
		{"an acknowledgement first", appendFrame(nil, kindSettings, flagAck, 0), nil, protocolError, "begins with a SETTINGS frame"},
		{"HTTP/1", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), nil, frameSizeError, "type 80 frame of 4740180 bytes"},
		{"settings of a stream", appendFrame(nil, kindSettings, 0, 1), nil, protocolError, "SETTINGS frame on stream 1"},
		{"settings of five bytes", appendFrame(nil, kindSettings, 0, 0, make([]byte, 5)...), nil, frameSizeError, "SETTINGS frame of 5 bytes"},
		{"an acknowledgement with content", hello, appendFrame(nil, kindSettings, flagAck, 0, make([]byte, 6)...), frameSizeError, "6 bytes instead of 0"},
		{"pushes", settings(settingPush, 1), nil, protocolError, "ENABLE_PUSH is 1"},
		{"too large a window", settings(settingWindow, 1<<31), nil, flowControlError, "INITIAL_WINDOW_SIZE is 2147483648"},
		{"small frames", settings(settingFrame, maxFrame-1), nil, protocolError, "MAX_FRAME_SIZE is 16383"},
		{"large frames", settings(settingFrame, 1<<24), nil, protocolError, "MAX_FRAME_SIZE is 16777216"},
		{"a window that overflows", hello, join(appendNumbers(nil, kindWindow, 1, maxWindow-initialWindow), settings(settingWindow, 1<<20)), flowControlError, "window of stream 1 overflow"},

		{"a push", hello, appendFrame(nil, kindPush, flagEndHeaders, 1, 0, 0, 0, 2), protocolError, "PUSH_PROMISE"},
		{"too long a frame", hello, long(kindData, 1), frameSizeError, "DATA frame of 16385 bytes"},
		{"data on no stream", hello, appendFrame(nil, kindData, 0, 0), protocolError, "DATA frame on stream 0"},
		{"data on a stream of the server", hello, appendFrame(nil, kindData, 0, 2), protocolError, "stream 2"},
		{"data on an idle stream", hello, appendFrame(nil, kindData, 0, 3), protocolError, "stream 3, which was not opened"},
		{"padding without a length", hello, after(data(flagPadded, "")), frameSizeError, "its padding's length"},
		{"too much padding", hello, after(data(flagPadded, "\x05abcd")), protocolError, "5 bytes of padding"},
		{"half a priority", hello, appendFrame(nil, kindHeaders, flagPriority|flagEndHeaders, 1, 0, 0, 0, 0), frameSizeError, "without its priority"},

		{"headers on an idle stream", hello, appendFrame(nil, kindHeaders, flagEndHeaders, 5, block(":status", "200")...), protocolError, "HEADERS frame on stream 5"},
		{"data within headers", hello, join(appendFrame(nil, kindHeaders, 0, 1), data(0, "")), protocolError, "DATA frame on stream 1 out of place"},
		{"headers of another stream", hello, join(appendFrame(nil, kindHeaders, 0, 1), appendFrame(nil, kindContinuation, 0, 3)), protocolError, "CONTINUATION frame on stream 3"},
		{"headers that go on too early", hello, appendFrame(nil, kindContinuation, flagEndHeaders, 1), protocolError, "CONTINUATION"},
		{"headers without end", hello, flood, enhanceYourCalm, "more than 65536 bytes"},
		{"no HPACK", hello, appendFrame(nil, kindHeaders, flagEndHeaders, 1, 0xff, 0xff, 0xff), compressionError, "header block"},
		{"half of a header", hello, appendFrame(nil, kindHeaders, flagEndHeaders, 1, 0x40, 5, 'a'), compressionError, "truncated"},

		{"a short reset", hello, appendFrame(nil, kindReset, 0, 1, 0), frameSizeError, "RST_STREAM frame of 1 bytes"},
		{"a reset of an idle stream", hello, appendNumbers(nil, kindReset, 7, 0), protocolError, "RST_STREAM frame on stream 7"},
		{"a short ping", hello, appendFrame(nil, kindPing, 0, 0, 1), frameSizeError, "PING frame of 1 bytes"},
		{"a ping on a stream", hello, appendFrame(nil, kindPing, 0, 1, make([]byte, 8)...), protocolError, "PING frame on stream 1"},
		{"a short farewell", hello, appendNumbers(nil, kindGoAway, 0, 1), frameSizeError, "GOAWAY frame of 4 bytes"},
		{"a farewell on a stream", hello, appendNumbers(nil, kindGoAway, 1, 1, 0), protocolError, "GOAWAY frame on stream 1"},
		{"a short window", hello, appendFrame(nil, kindWindow, 0, 0, 1), frameSizeError, "WINDOW_UPDATE frame of 1 bytes"},
		{"a window of nothing", hello, appendNumbers(nil, kindWindow, 0, 0), flowControlError, "WINDOW_UPDATE of 0"},
		{"the connection's window overflows", hello, appendNumbers(nil, kindWindow, 0, maxWindow), flowControlError, "on stream 0"},
		{"a stream's window overflows", hello, appendNumbers(nil, kindWindow, 1, maxWindow), flowControlError, "on stream 1"},
		{"the window of an idle stream", hello, appendNumbers(nil, kindWindow, 9, 1), protocolError, "stream 9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, received := script(t, tc.first, tc.then)
			_, err := collect(t.Context(), c)
			if e := status.Of(err); e == nil || e.Code != status.Unavailable || !strings.Contains(e.Message, tc.why.String()) || !strings.Contains(e.Message, tc.says) {
				t.Errorf("got %v; want it to be Unavailable and say %v and %q", err, tc.why, tc.says)
			}
			frames := received()
			last := frames[len(frames)-1]
			if last.kind != kindGoAway || reason(binary.BigEndian.Uint32(last.payload[4:])) != tc.why || !strings.Contains(string(last.payload[8:]), tc.says) {
				t.Errorf("the server was told %v %q", last.kind, last.payload)
			}
		})
	}
}

// What a server does wrong while a call is busy with a message that it has sent.
func TestMalformedFramesOfABusyCall(t *testing.T) {
	chunk := data(0, string(make([]byte, maxFrame)))
	for says, then := range map[string][]byte{
		"bytes too many on stream 1":                            bytes.Repeat(chunk, 2*receiveWindow/maxFrame+2),
		"DATA frame on stream 1, which the server had ended":    join(data(flagEndStream, ""), data(0, "")),
		"HEADERS frame on stream 1, which the server had ended": join(data(flagEndStream, ""), ok),
		"WINDOW_UPDATE frame on stream 4, which was not opened": appendNumbers(nil, kindWindow, 4, 1),
		"CONTINUATION frame on stream 1, which the server had ended": join(data(flagEndStream, ""),
			appendFrame(nil, kindHeaders, 0, 1), appendFrame(nil, kindContinuation, flagEndHeaders, 1)),
	} {
		t.Run(says, func(t *testing.T) {
			c, received := script(t, hello, join(begin, data(0, message("one")), then))
			var once sync.Once
			_ = c.Call(t.Context(), "a/b", nil, func([]byte) error {
				once.Do(func() { // until the connection is broken
					for n := 1; n > 0; time.Sleep(time.Millisecond) {
						c.mu.Lock()
						n = len(c.conns)
						c.mu.Unlock()
					}
				})
				return nil
			})
			frames := received()
			if last := frames[len(frames)-1]; last.kind != kindGoAway || !strings.Contains(string(last.payload), says) {
				t.Errorf("the server was told %v %q", last.kind, last.payload)
			}
		})
	}
}

func TestConnectionThatBreaks(t *testing.T) {
	for name, then := range map[string][]byte{"within a frame's head": begin[:5], "within a frame": begin[:12], "within a reply": begin} {
		t.Run(name, func(t *testing.T) {
			client, theirs := net.Pipe()
			c := new(Client)
			defer c.Close()
			go io.Copy(io.Discard, theirs) // ends with Close
			c.mu.Lock()
			s, err := c.add(client)
			c.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			s.close() // its place is the call's
			failed := make(chan error)
			go func() {
				_, err := collect(t.Context(), c)
				failed <- err
			}()
			opened(s.conn, 1)
			theirs.Write(append(hello, then...))
			theirs.Close()
			if err := <-failed; status.Of(err) == nil || status.Of(err).Code != status.Unavailable {
				t.Errorf("got %v, want Unavailable", err)
			}
		})
	}
}

// opened waits until a stream has its id, or the connection its end.
func opened(c *conn, id uint32) {
	for {
		c.mu.Lock()
		done := c.opened >= id || c.err != nil
		c.mu.Unlock()
		if done {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func TestServerIsAnswered(t *testing.T) {
	ping := appendFrame(nil, kindPing, 0, 0, []byte("12345678")...)
	c, received := script(t, join(settings(settingWindow, 3, 99, 99), ping), join(appendFrame(nil, kindPing, flagAck, 0, make([]byte, 8)...), begin, ok))
	if err := c.Warm(); err != nil {
		t.Fatal(err)
	}
	for small := false; !small; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		for k := range c.conns {
			k.mu.Lock()
			small = k.initial == 3
			k.mu.Unlock()
		}
		c.mu.Unlock()
	}
	// The window is too small for the request, and no more of it comes.
	ctx, cancelCall := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelCall()
	if _, err := collect(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var got []string
	sent := 0
	for _, f := range received() {
		if f.kind == kindData {
			sent += len(f.payload)
		}
		if f.flags&flagAck != 0 && (f.kind == kindSettings || f.kind == kindPing) {
			got = append(got, f.kind.String()+string(f.payload))
		}
		if f.kind == kindReset {
			got = append(got, f.kind.String()+reason(binary.BigEndian.Uint32(f.payload)).String())
		}
	}
	if want := []string{"SETTINGS", "PING12345678", "RST_STREAMCANCEL"}; !slices.Equal(got, want) {
		t.Errorf("the server was sent %q, want %q", got, want)
	}
	if sent != 3 {
		t.Errorf("the server was sent %d bytes of the request, want 3", sent)
	}
}

// A server that sends pings and does not read the answers gets no more of our memory or time than one write has.
func TestServerThatDoesNotRead(t *testing.T) {
	client, theirs := net.Pipe()
	c := new(Client)
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.CopyN(io.Discard, theirs, int64(len(preface)+frameHead+18+frameHead+4))
	}()
	c.mu.Lock()
	s, err := c.add(client)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	<-read
	s.close()
	theirs.Write(hello)
	theirs.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := theirs.Write(appendFrame(nil, kindPing, 0, 0, make([]byte, 8)...)); err == nil {
		_, err = theirs.Write(bytes.Repeat(appendFrame(nil, kindPing, 0, 0, make([]byte, 8)...), 1<<16))
		if err == nil {
			t.Error("all pings were taken")
		}
	}
	began := time.Now()
	c.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	theirs.Close()
}

// FuzzPeer gives two calls a server that sends anything.
func FuzzPeer(f *testing.F) {
	f.Add(join(hello, begin, data(0, message("one")), ok))
	f.Add(join(hello, begin, data(flagPadded, "\x03"+message("one")+"\x00\x00\x00"), appendFrame(nil, kindHeaders, 0, 1, ok[frameHead:]...), appendFrame(nil, kindContinuation, flagEndHeaders, 1)))
	f.Add(join(settings(settingWindow, 1, settingStreams, 1, settingFrame, 1<<20), appendNumbers(nil, kindWindow, 1, 10), appendNumbers(nil, kindWindow, 0, 10)))
	f.Add(join(hello, appendNumbers(nil, kindGoAway, 0, 1, 0), appendFrame(nil, kindPing, 0, 0, make([]byte, 8)...), headers(flagEndStream, ":status", "200", "grpc-status", "5", "grpc-message", "%41%")))
	f.Add(join(hello, appendNumbers(nil, kindReset, 3, 8), appendFrame(nil, kindPriority, 0, 3, 0, 0, 0, 0, 0), headers(0, ":status", "503")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		client, theirs := net.Pipe()
		c := new(Client)
		var wait sync.WaitGroup
		wait.Go(func() { io.Copy(io.Discard, theirs) })
		c.mu.Lock()
		s, err := c.add(client)
		c.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wait.Go(func() {
				ctx, cancelCall := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancelCall()
				_, err := collect(ctx, c)
				var e *status.Error
				if err != nil && !errors.As(err, &e) && !errors.Is(err, ErrClosed) {
					t.Errorf("got %v, which has no status", err)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a call waits for ever")
				}
			})
		}
		opened(s.conn, 3)
		s.close()
		theirs.Write(raw)
		theirs.Close()
		c.mu.Lock()
		for k := range c.conns { // it has read the end, or is about to
			k.socket.SetReadDeadline(time.Now().Add(time.Second))
		}
		c.closed = true // a call must not connect anew
		c.mu.Unlock()
		wait.Wait()
		c.Close()
	})
}
