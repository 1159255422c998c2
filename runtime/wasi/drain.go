package wasi

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wasi/exchange"
)

// While a system drains, connections that a client merely keeps alive have to end too, or else every
// stop would take its whole grace period.
const (
	// quietAfter is how long no byte has moved on an idle connection before it counts as kept alive only: a client that
	// is about to send gets its answer.
	quietAfter = 2 * time.Second
	// drainLook is how often a parked guest's connections are looked at.
	drainLook = 200 * time.Millisecond
)

// Drain stops the acceptance of connections: sock_accept parks (or says EAGAIN) as if nobody came.
// Connections that are open go on. Once one has been idle for two seconds, with no request under way on it, its reading
// side is shut down: a server then closes it as if the client had. That takes a protocol that package exchange knows;
// other connections go on until they are closed.
func (s *System) Drain() {
	s.draining.Store(true)
	if s.poller != nil {
		s.poller.Wake()
	}
	s.checkIdle()
}

// Connections is how many accepted connections the guest has open.
func (s *System) Connections() int { return int(s.connections.Load()) }

// Idle is closed when the system drains and no accepted connection is open any more.
func (s *System) Idle() <-chan struct{} { return s.idle }

func (s *System) checkIdle() {
	if s.draining.Load() && s.connections.Load() == 0 {
		s.idleOnce.Do(func() { close(s.idle) })
	}
}

// received notes n bytes of a client's in buffers, and sent n bytes of the guest's.
func (d *descriptor) received(bufs [][]byte, n int) { d.moved(bufs, n, (*exchange.Tracker).Client) }
func (d *descriptor) sent(bufs [][]byte, n int)     { d.moved(bufs, n, (*exchange.Tracker).Server) }

func (d *descriptor) moved(bufs [][]byte, n int, note func(*exchange.Tracker, []byte)) {
	if n <= 0 || d.connection == nil {
		return
	}
	d.active = time.Now()
	for _, b := range bufs {
		b = b[:min(len(b), n)]
		note(d.connection, b)
		if n -= len(b); n == 0 {
			return
		}
	}
}

// endQuiet shuts down what is only kept alive. The parked guest's call does this itself, because it holds the
// lock for as long as it waits.
func (s *System) endQuiet() {
	for _, d := range s.table.slots {
		if d == nil || d.connection == nil || d.quiet || !d.connection.Idle() || time.Since(d.active) < s.quietAfter || d.available() > 0 {
			continue
		}
		d.quiet = true
		// Fails if the client has gone already, which is as good.
		_ = d.sock.Shutdown(unix.SHUT_RD)
	}
}
