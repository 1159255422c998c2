package wasi

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// eventSize is the size of an `event`.
const eventSize = 32

// subscriptionLayout is the size of a `subscription` and where a clock's fields are; all else lies alike in preview1
// and snapshot 0.
type subscriptionLayout struct {
	size                  uint32
	clock, timeout, flags int
}

var preview1Subscription = subscriptionLayout{size: 48, clock: 16, timeout: 24, flags: 40}

// maxSubscriptions bounds one poll. Go's runtime has at most 65535.
const maxSubscriptions = 1 << 16

// Event types.
const (
	eventClock = iota
	eventFdRead
	eventFdWrite
)

// Flags.
const (
	clockAbstime = 1
	eventHangup  = 1
)

// subscription is one thing a guest waits for.
type subscription struct {
	userdata uint64
	kind     uint8
	failed   errno       // an answer that is known at once
	d        *descriptor // of an fd event
	deadline int64       // of a clock event: nanoseconds of System.monotonic
}

func (s *System) pollOneoff(p []uint64) errno { return s.poll(p, preview1Subscription) }

// poll waits until at least one of the subscriptions has an event, and writes all events there are.
func (s *System) poll(p []uint64, layout subscriptionLayout) errno {
	in, out, n, result := uint32(p[0]), uint32(p[1]), uint32(p[2]), uint32(p[3])
	if n == 0 || n > maxSubscriptions {
		return eInval
	}
	subscriptions, ok := s.view(in, n*layout.size)
	events, ok2 := s.view(out, n*eventSize)
	if !ok || !ok2 || !s.writable(result, 4) {
		return eFault
	}
	s.subs = s.subs[:0]
	for i := range n {
		sub, e := s.parseSubscription(subscriptions[i*layout.size:], layout)
		if e != success {
			return e
		}
		s.subs = append(s.subs, sub)
	}
	for {
		deadline, now := s.interests()
		if e := s.park(timeoutOf(deadline, now, s.monotonic())); e != success {
			return e
		}
		s.polledAt = s.monotonic()
		if count := s.collect(events); count > 0 {
			return s.putU32(result, uint32(count))
		}
	}
}

func (s *System) parseSubscription(b []byte, layout subscriptionLayout) (subscription, errno) {
	le := binary.LittleEndian
	sub := subscription{userdata: le.Uint64(b), kind: b[8]}
	switch sub.kind {
	case eventClock:
		sub.deadline, sub.failed = s.deadline(le.Uint32(b[layout.clock:]), le.Uint64(b[layout.timeout:]), le.Uint16(b[layout.flags:]))
		return sub, success
	case eventFdRead, eventFdWrite:
		sub.d, sub.failed = s.fdWith(uint64(le.Uint32(b[16:])), rightPollFdReadwrite)
		return sub, success
	}
	return sub, eInval
}

// deadline is when a clock fires, in the guest's monotonic time.
func (s *System) deadline(clock uint32, timeout uint64, flags uint16) (int64, errno) {
	if flags&^clockAbstime != 0 {
		return 0, eInval
	}
	now := s.monotonic()
	switch clock {
	case clockRealtime:
		if flags&clockAbstime != 0 {
			wall := uint64(time.Now().UnixNano())
			timeout -= min(timeout, wall)
		}
	case clockMonotonic:
		if flags&clockAbstime != 0 {
			timeout -= min(timeout, uint64(now))
		}
	case clockProcessCPU, clockThreadCPU:
		return 0, eNotsup
	default:
		return 0, eInval
	}
	if timeout > uint64(math.MaxInt64-now) {
		return math.MaxInt64, success
	}
	return now + int64(timeout), success
}

// interests tells the poller what to wait for. The deadline is that of the first clock, and now is set if
// some answer is known already.
func (s *System) interests() (deadline int64, now bool) {
	deadline = math.MaxInt64
	s.poller.Begin()
	for i := range s.subs {
		sub := &s.subs[i]
		switch {
		case sub.failed != success:
			now = true
		case sub.kind == eventClock:
			deadline = min(deadline, sub.deadline)
		default:
			if err := s.want(sub.d, sub.events()); err != nil {
				sub.failed = errnoOf(err)
				now = true
			}
		}
	}
	return deadline, now
}

func timeoutOf(deadline int64, now bool, clock int64) time.Duration {
	switch {
	case now || deadline <= clock:
		return 0
	case deadline == math.MaxInt64:
		return wait.Forever
	}
	return time.Duration(deadline - clock)
}

func (sub *subscription) events() wait.Events {
	if sub.kind == eventFdRead {
		return wait.Read
	}
	return wait.Write
}

// turn is how long a guest may read without polling before its sockets make it.
const turn = 20 * time.Millisecond

// othersTurn says that a read of a connection that does not wait is to find nothing for once, so that the guest polls and
// sees who else has come. A goroutine whose client answers at once never waits, and nothing interrupts it: Go has no
// monitor thread in WebAssembly to do so. Of each connection every other read goes on, and those of a guest that never polls
// all do.
func (s *System) othersTurn(d *descriptor) bool {
	if d.sock == nil || d.flags&flagNonblock == 0 || !d.sock.Stream() || s.polledAt == 0 {
		return false
	}
	d.waited = !d.waited && s.monotonic()-s.polledAt > int64(turn)
	return d.waited
}

// collect writes the events there are and counts them.
func (s *System) collect(events []byte) int {
	count := 0
	clock := s.monotonic()
	for i := range s.subs {
		sub := &s.subs[i]
		var nbytes uint64
		var flags uint16
		switch {
		case sub.failed != success:
		case sub.kind == eventClock:
			if sub.deadline > clock {
				continue
			}
		default:
			if sub.d.wait == nil {
				continue
			}
			ready := sub.d.wait.Ready(s.poller)
			if ready&sub.events() == 0 {
				continue
			}
			if ready&wait.Hangup != 0 {
				flags = eventHangup
			}
			if sub.kind == eventFdRead {
				nbytes = sub.d.available()
			}
		}
		b := events[count*eventSize:][:eventSize]
		clear(b)
		le := binary.LittleEndian
		le.PutUint64(b, sub.userdata)
		le.PutUint16(b[8:], uint16(sub.failed))
		b[10] = sub.kind
		le.PutUint64(b[16:], nbytes)
		le.PutUint16(b[24:], flags)
		count++
	}
	return count
}
