package grpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/hachi-run/hachi/shim/status"
)

const (
	// preface begins a connection, before our SETTINGS (RFC 9113, 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// initialWindow is every window at first (RFC 9113, 6.9.2), maxWindow the largest (6.9.1).
	initialWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
	// receiveWindow is how much the server may send of one reply before it was read here.
	receiveWindow = 256 << 10
	// writeTime bounds a write to a server that does not read; then the connection is broken.
	writeTime = 5 * time.Second
	// lastStream is the highest id (RFC 9113, 5.1.1).
	lastStream = 1<<31 - 1
)

var (
	errIdle    = errors.New("there were no calls")
	errDrained = errors.New("the server went away")
)

// conn is a connection. Its reader (read) is a goroutine; frames are written by whoever has them, so a server that sends
// faster than it reads makes nothing pile up here.
type conn struct {
	socket net.Conn
	idle   time.Duration

	writing sync.Mutex     // held while frames are written; taken before mu
	encoder *hpack.Encoder // guarded by writing
	block   bytes.Buffer   // guarded by writing: what encoder wrote
	next    uint32         // guarded by writing: the id of the next stream

	mu       sync.Mutex
	err      error                // guarded by mu, as all below: why the connection ended
	draining bool                 // there are no new calls
	timer    *time.Timer          // runs while there are no calls
	calls    map[*stream]struct{} // all, also those that wait for room
	streams  map[uint32]*stream   // those that have an id
	opened   uint32               // the highest id
	room     int64                // for how many more streams
	limit    int64                // of streams at a time
	initial  int64                // a new stream's send window
	window   int64                // the connection's send window
}

func newConn(socket net.Conn, idle time.Duration) *conn {
	c := &conn{
		socket: socket, idle: idle, next: 1, room: maxWindow, limit: maxWindow, initial: initialWindow, window: initialWindow,
		calls: map[*stream]struct{}{}, streams: map[uint32]*stream{},
	}
	c.encoder = hpack.NewEncoder(&c.block)
	c.encoder.SetMaxDynamicTableSize(0) // then nothing that the server says about its table matters
	c.timer = time.AfterFunc(idle, c.expire)
	return c
}

// greet sends what a client sends first. The whole connection gets the largest window, since each stream has its own
// (RFC 9113, 5.2.2).
func (c *conn) greet() error {
	settings := appendSetting(nil, settingPush, 0)
	settings = appendSetting(settings, settingWindow, receiveWindow)
	settings = appendSetting(settings, settingHeaderList, maxHeader)
	b := appendFrame([]byte(preface), kindSettings, 0, 0, settings...)
	return c.write(appendNumbers(b, kindWindow, 0, maxWindow-initialWindow))
}

// reserve makes room for a call, or returns nil where the connection takes none.
func (c *conn) reserve() *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.draining {
		return nil
	}
	s := &stream{conn: c, ready: make(chan struct{}, 1), unread: receiveWindow}
	c.calls[s] = struct{}{}
	c.timer.Stop()
	return s
}

// expire ends a connection that has no calls.
func (c *conn) expire() {
	c.mu.Lock()
	idle := len(c.calls) == 0 // the timer may fire while a call begins
	c.draining = c.draining || idle
	c.mu.Unlock()
	if idle {
		c.fail(errIdle)
	}
}

// write sends frames; an error is that of the connection, which it ended.
func (c *conn) write(frames []byte) error {
	c.writing.Lock()
	err := c.flush(frames)
	c.writing.Unlock()
	return c.check(err)
}

// flush is write with the lock held, and leaves it to check to end the connection when the lock is not.
func (c *conn) flush(frames []byte) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.socket.Write(frames)
	return err
}

func (c *conn) check(err error) error {
	if err == nil {
		return nil
	}
	c.fail(status.Errorf(status.Unavailable, "%v", err))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends the connection and all its calls with an error; an earlier one stays. Its reader returns.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	c.timer.Stop()
	for s := range c.calls {
		s.fail(err)
	}
	c.socket.Close()
}

// accuse tells the server what it did wrong (RFC 9113, 5.4.1) and ends the connection.
func (c *conn) accuse(v *violation) {
	payload := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(v.reason))
	c.writing.Lock()
	_ = c.flush(appendFrame(nil, kindGoAway, 0, 0, append(payload, v.text...)...))
	c.writing.Unlock()
	c.fail(status.Errorf(status.Unavailable, "the server broke HTTP/2: %v", v))
}

// wakeAll has every call look again; c.mu is held.
func (c *conn) wakeAll() {
	for s := range c.calls {
		s.wake()
	}
}
