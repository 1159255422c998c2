package wasi

import (
	"time"

	"golang.org/x/sys/unix"
)

// While a system drains, connections that a client merely keeps alive have to end too, or else every
// stop would take its whole grace period.
const (
	// quietAfter is how long no byte has moved on a connection before it counts as kept alive. It is
	// longer than most answers take to continue, since a stream's pause cannot be told from its end.
	quietAfter = 2 * time.Second
	// drainLook is how often a parked guest's connections are looked at.
	drainLook = 200 * time.Millisecond
)

// Drain stops the acceptance of connections: sock_accept parks (or says EAGAIN) as if nobody came.
// Connections that are open go on. Once nothing has moved on one for two seconds and the guest owes no
// answer, its reading side is shut down: a server then closes it as if the client had.
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

// moved notes n bytes that went over a connection; owes tells that they were the client's.
func (d *descriptor) moved(n int, owes bool) {
	if n > 0 && d.connection {
		d.owes, d.active = owes, time.Now()
	}
}

// endQuiet shuts down what is only kept alive. The parked guest's call does this itself, because it holds the
// lock for as long as it waits.
func (s *System) endQuiet() {
	for _, d := range s.table.slots {
		if d == nil || !d.connection || d.quiet || d.owes || time.Since(d.active) < s.quietAfter || d.available() > 0 {
			continue
		}
		d.quiet = true
		// Fails if the client has gone already, which is as good.
		_ = d.sock.Shutdown(unix.SHUT_RD)
	}
}
