package wasi

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type event struct {
	Userdata uint64
	Errno    errno
	Type     uint8
	Bytes    uint64
	Flags    uint16
}

// poll runs poll_oneoff and returns its events in the order of userdata.
func (r *raw) poll(subs ...[]byte) []event {
	r.t.Helper()
	r.put(atSubs, slices.Concat(subs...))
	r.ok("poll_oneoff", atSubs, atEvents, uint64(len(subs)), atResult)
	var list []event
	le := binary.LittleEndian
	for i := range r.u32(atResult) {
		b := r.bytes(atEvents+i*eventSize, eventSize)
		list = append(list, event{le.Uint64(b), errno(le.Uint16(b[8:])), b[10], le.Uint64(b[16:]), le.Uint16(b[24:])})
	}
	slices.SortFunc(list, func(a, b event) int { return int(a.Userdata) - int(b.Userdata) })
	return list
}

func TestPollClocks(t *testing.T) {
	g := newRaw(t, Options{}, nil)
	for _, c := range []struct {
		name    string
		sub     func() []byte
		at      time.Duration
		failure errno
	}{
		{"relative", func() []byte { return clockSubscription(7, clockMonotonic, 20e6, 0) }, 20 * time.Millisecond, 0},
		{"realtime", func() []byte { return clockSubscription(7, clockRealtime, 20e6, 0) }, 20 * time.Millisecond, 0},
		{"absolute", func() []byte {
			return clockSubscription(7, clockMonotonic, uint64(g.monotonic())+20e6, clockAbstime)
		}, 20 * time.Millisecond, 0},
		{"absolute realtime", func() []byte {
			return clockSubscription(7, clockRealtime, uint64(time.Now().UnixNano())+20e6, clockAbstime)
		}, 20 * time.Millisecond, 0},
		{"in the past", func() []byte { return clockSubscription(7, clockRealtime, 1, clockAbstime) }, 0, 0},
		{"zero", func() []byte { return clockSubscription(7, clockMonotonic, 0, 0) }, 0, 0},
		{"CPU clock", func() []byte { return clockSubscription(7, clockProcessCPU, 0, 0) }, 0, eNotsup},
		{"unknown clock", func() []byte { return clockSubscription(7, 9, 0, 0) }, 0, eInval},
		{"unknown flag", func() []byte { return clockSubscription(7, clockMonotonic, 0, 2) }, 0, eInval},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			got := g.poll(c.sub(), clockSubscription(8, clockMonotonic, uint64(time.Hour), 0))
			took := time.Since(began)
			if diff := cmp.Diff([]event{{Userdata: 7, Errno: c.failure, Type: eventClock}}, got); diff != "" {
				t.Error(diff)
			}
			if took < c.at || took > c.at+time.Second {
				t.Errorf("took %v, want %v", took, c.at)
			}
		})
	}
}

func TestPollDescriptors(t *testing.T) {
	r, w := pipe(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	listener, addr := listen(t)
	g := newRaw(t, Options{Stdin: r, Stdout: w, Stderr: null, Listeners: []*os.File{listener}}, nil)
	later := clockSubscription(9, clockMonotonic, 10e6, 0)

	t.Run("nothing is ready", func(t *testing.T) {
		got := g.poll(fdSubscription(1, eventFdRead, 0), fdSubscription(2, eventFdRead, 3), later)
		if diff := cmp.Diff([]event{{Userdata: 9}}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an idle poll does not spin", func(t *testing.T) {
		before := cpuTime(t)
		g.poll(fdSubscription(1, eventFdRead, 0), clockSubscription(9, clockMonotonic, 300e6, 0))
		if used := cpuTime(t) - before; used > 30*time.Millisecond {
			t.Errorf("used %v of 300ms", used)
		}
	})
	t.Run("ready at once", func(t *testing.T) {
		got := g.poll(fdSubscription(1, eventFdWrite, 1), fdSubscription(2, eventFdRead, 2), later)
		want := []event{{Userdata: 1, Type: eventFdWrite}, {Userdata: 2, Type: eventFdRead}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("bad descriptors are events", func(t *testing.T) {
		got := g.poll(fdSubscription(1, eventFdRead, 99), fdSubscription(2, eventFdRead, 1<<31), later)
		want := []event{{Userdata: 1, Errno: eBadf, Type: eventFdRead}, {Userdata: 2, Errno: eBadf, Type: eventFdRead}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("data", func(t *testing.T) {
		time.AfterFunc(10*time.Millisecond, func() { _, _ = w.WriteString("12345") })
		got := g.poll(fdSubscription(1, eventFdRead, 0), fdSubscription(2, eventFdRead, 3))
		if diff := cmp.Diff([]event{{Userdata: 1, Type: eventFdRead, Bytes: 5}}, got); diff != "" {
			t.Error(diff)
		}
		if text, e := g.read(0, 10); text != "12345" || e != success {
			t.Errorf("read %q, errno %d", text, e)
		}
	})
	t.Run("connection, both directions, hangup", func(t *testing.T) {
		c := dial(t, addr)
		if diff := cmp.Diff([]event{{Userdata: 2, Type: eventFdRead}}, g.poll(fdSubscription(2, eventFdRead, 3))); diff != "" {
			t.Error(diff)
		}
		g.ok("sock_accept", 3, uint64(flagNonblock), atResult)
		fd := g.u32(atResult)
		both := [][]byte{fdSubscription(1, eventFdRead, fd), fdSubscription(2, eventFdWrite, fd)}
		if diff := cmp.Diff([]event{{Userdata: 2, Type: eventFdWrite}}, g.poll(both...)); diff != "" {
			t.Error(diff)
		}
		if _, e := g.read(uint64(fd), 1); e != eAgain {
			t.Errorf("read of nothing: errno %d", e)
		}
		_ = c.Close()
		got := g.poll(both[0])
		if len(got) != 1 || got[0].Userdata != 1 {
			t.Errorf("closed connection: %+v", got)
		}
		if text, e := g.read(uint64(fd), 1); text != "" || e != success {
			t.Errorf("read at the end: %q, errno %d", text, e)
		}
		g.ok("fd_close", uint64(fd))
		if n := g.Connections(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("a closed descriptor's number can be used again", func(t *testing.T) {
		// The old registration must be gone from the poller.
		for range 3 {
			c := dial(t, addr)
			g.ok("sock_accept", 3, 0, atResult)
			fd := g.u32(atResult)
			got := g.poll(fdSubscription(1, eventFdRead, fd), later)
			if diff := cmp.Diff([]event{{Userdata: 9}}, got); diff != "" {
				t.Error(diff)
			}
			g.ok("fd_close", uint64(fd))
			_ = c.Close()
		}
	})
	t.Run("refused", func(t *testing.T) {
		g.want(eInval, "poll_oneoff", atSubs, atEvents, 0, atResult)
		g.want(eInval, "poll_oneoff", atSubs, atEvents, 1<<32-1, atResult)
		g.want(eFault, "poll_oneoff", atSubs, atEvents, maxSubscriptions, atResult)
		g.put(atSubs, fdSubscription(1, 3, 0))
		g.want(eInval, "poll_oneoff", atSubs, atEvents, 1, atResult)
	})
}

// TestManyWaiters: the poller takes more ready descriptors than one epoll_wait returns.
func TestManyWaiters(t *testing.T) {
	listener, addr := listen(t)
	g := newRaw(t, Options{Listeners: []*os.File{listener}}, nil)
	const n = 300
	var subs [][]byte
	for i := range n {
		c := dial(t, addr)
		defer c.Close()
		if _, err := c.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		g.ok("sock_accept", 3, 0, atResult)
		subs = append(subs, fdSubscription(uint64(i), eventFdRead, g.u32(atResult)))
	}
	time.Sleep(10 * time.Millisecond)
	seen := map[uint64]bool{}
	for range 100 {
		for _, e := range g.poll(subs...) {
			if !seen[e.Userdata] {
				seen[e.Userdata] = true
				if text, errno := g.read(e.Userdata+4, 1); text != "x" || errno != success {
					t.Fatalf("read %q, errno %d", text, errno)
				}
			}
		}
		if len(seen) == n {
			return
		}
		subs = slices.DeleteFunc(subs, func(b []byte) bool { return seen[binary.LittleEndian.Uint64(b)] })
	}
	t.Errorf("%d of %d became ready", len(seen), n)
}

// A connection whose peer is always quicker must not keep the guest from polling for the others: when the guest has read
// for a while without a poll, a read finds nothing, once.
func TestReadsLetOthersHaveTheirTurn(t *testing.T) {
	listener, addr := listen(t)
	g := newRaw(t, Options{Listeners: []*os.File{listener}}, nil)
	c := dial(t, addr)
	defer c.Close()
	g.poll(fdSubscription(1, eventFdRead, 3))
	g.ok("sock_accept", 3, uint64(flagNonblock), atResult)
	fd := uint64(g.u32(atResult))
	if _, err := c.Write([]byte("abcdefgh")); err != nil {
		t.Fatal(err)
	}
	read := func(want string, wantErrno errno) {
		t.Helper()
		if text, e := g.read(fd, 1); text != want || e != wantErrno {
			t.Errorf("read %q, errno %d, want %q, errno %d", text, e, want, wantErrno)
		}
	}
	g.poll(fdSubscription(1, eventFdRead, uint32(fd)))
	read("a", success)
	time.Sleep(2 * turn)
	read("", eAgain)
	read("b", success) // a guest that does not poll goes on
	read("", eAgain)
	g.poll(fdSubscription(1, eventFdRead, uint32(fd)))
	read("c", success)
	read("d", success)
	time.Sleep(2 * turn)
	p, n := g.vector(1)
	g.want(eAgain, "sock_recv", fd, p, n, 0, atResult, atResult+8)
	g.ok("sock_recv", fd, p, n, 0, atResult, atResult+8)
}

// A guest that never polls is not made to.
func TestGuestsWithoutPollsHaveNoTurns(t *testing.T) {
	listener, addr := listen(t)
	g := newRaw(t, Options{Listeners: []*os.File{listener}}, nil)
	c := dial(t, addr)
	defer c.Close()
	g.ok("sock_accept", 3, 0, atResult)
	fd := uint64(g.u32(atResult))
	g.ok("fd_fdstat_set_flags", fd, uint64(flagNonblock))
	if _, err := c.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * turn)
	for _, want := range []string{"a", "b"} {
		if text, e := g.read(fd, 1); text != want || e != success {
			t.Errorf("read %q, errno %d, want %q", text, e, want)
		}
	}
}
