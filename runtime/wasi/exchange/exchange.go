// Package exchange tells from the bytes on a connection whether a request is under way on it.
//
// It knows HTTP/1 and HTTP/2 in clear text. On a connection that speaks anything else, or is encrypted, something may
// always be under way.
package exchange

import "bytes"

// Tracker watches the server's side of one connection. The zero value is one without any bytes yet. Not safe for
// concurrent use.
type Tracker struct {
	protocol protocol
	begun    []byte // what the client has sent, until the protocol is known
	http1    http1
	http2    http2
}

type protocol uint8

const (
	undecided protocol = iota
	isHTTP1
	isHTTP2
	other
)

// preface begins every HTTP/2 connection (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// longestMethod bounds what is looked at for a request's first word.
const longestMethod = 32

// Client notes bytes that the client has sent.
func (t *Tracker) Client(b []byte) {
	if t.protocol == undecided {
		t.begun = append(t.begun, b...)
		b = t.begun
		t.protocol = guess(b)
		if t.protocol == undecided {
			return
		}
		t.begun = nil
		if t.protocol == isHTTP2 {
			b = b[len(preface):]
		}
	}
	switch t.protocol {
	case isHTTP1:
		t.http1.client(b)
	case isHTTP2:
		t.http2.client.read(b, t.http2.fromClient)
	}
}

// guess looks at how a client begins.
func guess(b []byte) protocol {
	if n := min(len(b), len(preface)); string(b[:n]) == preface[:n] {
		if n == len(preface) {
			return isHTTP2
		}
		return undecided
	}
	method, _, whole := bytes.Cut(b[:min(len(b), longestMethod)], []byte{' '})
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return other
		}
	}
	switch {
	case whole && len(method) > 0 && string(method) != "CONNECT": // a tunnel for something else
		return isHTTP1
	case whole || len(b) >= longestMethod:
		return other
	}
	return undecided
}

// Server notes bytes that the server has sent.
func (t *Tracker) Server(b []byte) {
	switch t.protocol {
	case undecided: // a server that speaks first
		t.protocol, t.begun = other, nil
	case isHTTP1:
		if !t.http1.server(b) {
			t.protocol = other
		}
	case isHTTP2:
		t.http2.server.read(b, t.http2.fromServer)
	}
}

// Idle says whether nothing is under way: no byte has come yet, or all that was asked for has been answered.
func (t *Tracker) Idle() bool {
	switch t.protocol {
	case undecided:
		return len(t.begun) == 0
	case isHTTP1:
		return !t.http1.busy
	case isHTTP2:
		return len(t.http2.open) == 0 && !t.http2.lost
	}
	return false
}
