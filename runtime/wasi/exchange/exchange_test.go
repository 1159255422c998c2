package exchange

import (
	"strings"
	"testing"
)

// step is bytes of one side, and what is to be known after them.
type step struct {
	side byte // c or s
	text string
	idle bool
}

func frame(kind, flags byte, stream byte, body string) string {
	return string([]byte{0, byte(len(body) >> 8), byte(len(body)), kind, flags, 0, 0, 0, stream}) + body
}

var conversations = map[string][]step{
	"length": {
		{'c', "GET / HTTP/1.1\r\nHost: a\r\n\r\n", false},
		{'s', "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false},
		{'s', "hell", false}, {'s', "o", true},
		{'c', "POST / HTTP/1.1\r\n", false}, {'c', "Content-Length: 1\r\n\r\nx", false},
		{'s', "HTTP/1.0 200 OK\r\ncontent-length:  0\r\n\r\n", true},
	},
	"chunks": {
		{'c', "GET / HTTP/1.1\r\n\r\n", false},
		{'s', "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false},
		{'s', "5\r\nhello\r\n", false}, {'s', "A; x=y\r\n0123456789\r\n0\r\n", false},
		{'s', "Trailer: 1\r\n", false}, {'s', "\r\n", true},
	},
	"events that go on": {
		{'c', "GET / HTTP/1.1\r\n\r\n", false},
		{'s', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent\n\r\n", false},
	},
	"to the end of the connection": {
		{'c', "GET / HTTP/1.0\r\n\r\n", false}, {'s', "HTTP/1.0 200 OK\r\n\r\nanything", false}, {'s', "more", false},
	},
	"no bodies": {
		{'c', "HEAD / HTTP/1.1\r\n\r\n", false}, {'s', "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", true},
		{'c', "GET / HTTP/1.1\r\n\r\n", false}, {'s', "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", true},
		{'c', "GET / HTTP/1.1\r\n\r\n", false}, {'s', "HTTP/1.1 204 No Content\r\n\r\n", true},
	},
	"continue": {
		{'c', "PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", false}, {'s', "HTTP/1.1 100 Continue\r\n\r\n", false},
		{'c', "body", false}, {'s', "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", true},
	},
	"upgrade": {
		{'c', "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", false}, {'s', "HTTP/1.1 101 Switching Protocols\r\n\r\n", false},
		{'s', "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
	},
	"HTTP/2": {
		{'c', preface, true}, {'c', frame(4, 0, 0, ""), true}, {'s', frame(4, 0, 0, "123456"), true},
		{'c', frame(frameHeaders, 5, 1, "get"), false},
		{'c', frame(frameHeaders, 4, 3, "post") + frame(frameData, 1, 3, "body"), false},
		{'s', frame(frameHeaders, 4, 1, "ok") + frame(frameData, 0, 1, strings.Repeat("x", 300)), false},
		{'s', frame(frameData, endStream, 1, ""), false},
		{'s', frame(frameHeaders, 5, 3, "ok"), true},
		{'c', frame(frameHeaders, 5, 3, "trailers of what is answered"), true},
		{'c', frame(frameHeaders, 4, 5, "get"), false}, {'c', frame(frameReset, 0, 5, "1234"), true},
		{'c', frame(frameHeaders, 4, 7, "get"), false}, {'s', frame(frameReset, 0, 7, "1234"), true},
	},
	"a tunnel":           {{'c', "CONNECT a:1 HTTP/1.1\r\n\r\n", false}, {'s', "HTTP/1.1 200 OK\r\n\r\n", false}},
	"TLS":                {{'c', "\x16\x03\x01\x02\x00", false}, {'s', "\x16\x03\x03", false}},
	"server first":       {{'s', "220 mail\r\n", false}, {'c', "EHLO a\r\n", false}, {'s', "250 ok\r\n", false}},
	"one long word":      {{'c', strings.Repeat("A", 40), false}, {'s', "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false}},
	"not an answer":      {{'c', "GET / HTTP/1.1\r\n\r\n", false}, {'s', "what?\r\n\r\n", false}},
	"a head for ever":    {{'c', "GET / HTTP/1.1\r\n\r\n", false}, {'s', strings.Repeat("x", 2*longestHead), false}},
	"a length too large": {{'c', "GET / HTTP/1.1\r\n\r\n", false}, {'s', "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", false}},
}

func TestConversations(t *testing.T) {
	for name, steps := range conversations {
		for _, size := range []int{1 << 20, 7, 1} { // pieces that the bytes come in
			var tr Tracker
			if !tr.Idle() {
				t.Error("busy before the first byte")
			}
			for i, s := range steps {
				for rest := s.text; rest != ""; {
					piece := rest[:min(size, len(rest))]
					rest = rest[len(piece):]
					if s.side == 'c' {
						tr.Client([]byte(piece))
					} else {
						tr.Server([]byte(piece))
					}
				}
				if got := tr.Idle(); got != s.idle {
					t.Errorf("%s, in pieces of %d: after step %d idle is %v", name, size, i, got)
				}
			}
		}
	}
}

// Whatever comes, memory stays bounded and nothing panics.
func FuzzTracker(f *testing.F) {
	for _, steps := range conversations {
		var c, s string
		for _, step := range steps {
			if step.side == 'c' {
				c += step.text
			} else {
				s += step.text
			}
		}
		f.Add([]byte(c), []byte(s))
	}
	f.Fuzz(func(t *testing.T, client, server []byte) {
		var tr Tracker
		tr.Client(client[:len(client)/2])
		tr.Server(server)
		tr.Client(client[len(client)/2:])
		tr.Server(server)
		tr.Idle()
		if len(tr.http1.head) > 2*longestHead || len(tr.begun) > len(preface)+longestMethod && tr.protocol == undecided {
			t.Errorf("keeps %d and %d bytes", len(tr.http1.head), len(tr.begun))
		}
	})
}
