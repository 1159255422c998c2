package wasi

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInterruptWakes: Interrupt ends every call that can block, and every later one.
func TestInterruptWakes(t *testing.T) {
	var addr string
	for _, blocked := range []struct {
		name string
		call func(g *raw) error
	}{
		{"fd_read", func(g *raw) error {
			p, n := g.vector(10)
			_, err := g.try("fd_read", 0, p, n, atResult)
			return err
		}},
		{"fd_write", func(g *raw) error {
			p, n := g.vector(0x4000)
			for {
				if _, err := g.try("fd_write", 1, p, n, atResult); err != nil {
					return err
				}
			}
		}},
		{"sock_accept", func(g *raw) error {
			_, err := g.try("sock_accept", 3, 0, atResult)
			return err
		}},
		{"sock_accept while draining", func(g *raw) error {
			c := dial(t, addr)
			defer c.Close()
			g.Drain()
			_, err := g.try("sock_accept", 3, 0, atResult)
			return err
		}},
		{"sock_recv", func(g *raw) error {
			c := dial(t, addr)
			defer c.Close()
			g.ok("sock_accept", 3, 0, atResult)
			p, n := g.vector(10)
			_, err := g.try("sock_recv", uint64(g.u32(atResult)), p, n, 0, atResult, atResult+4)
			return err
		}},
		{"poll_oneoff of a clock", func(g *raw) error {
			g.put(atSubs, clockSubscription(1, clockMonotonic, uint64(time.Hour), 0))
			_, err := g.try("poll_oneoff", atSubs, atEvents, 1, atResult)
			return err
		}},
		{"poll_oneoff of stdin", func(g *raw) error {
			g.put(atSubs, fdSubscription(1, eventFdRead, 0))
			_, err := g.try("poll_oneoff", atSubs, atEvents, 1, atResult)
			return err
		}},
	} {
		t.Run(blocked.name, func(t *testing.T) {
			var listener *os.File
			listener, addr = listen(t)
			r, _ := pipe(t)
			_, w := pipe(t)
			g := newRaw(t, Options{Stdin: r, Stdout: w, Listeners: []*os.File{listener}}, nil)
			var began time.Time
			time.AfterFunc(50*time.Millisecond, func() {
				began = time.Now()
				g.Interrupt(143)
				g.Interrupt(1) // only the first counts
			})
			if code := exitCode(t, blocked.call(g)); code != 143 {
				t.Errorf("exit code %d, want 143", code)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v", took)
			}
			// Whatever the embedder does next, the guest does not get far.
			if _, err := g.try("sched_yield"); err == nil {
				t.Error("a later call succeeded")
			}
		})
	}
}

func TestCloseEndsBlockedCall(t *testing.T) {
	r, _ := pipe(t)
	g := newRaw(t, Options{Stdin: r}, nil)
	time.AfterFunc(20*time.Millisecond, func() { _ = g.Close() })
	p, n := g.vector(10)
	_, err := g.try("fd_read", 0, p, n, atResult)
	if code := exitCode(t, err); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if err := g.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestProcExitAndRaise(t *testing.T) {
	for _, c := range []struct {
		call      string
		arg, code uint32
	}{
		{"proc_exit", 0, 0}, {"proc_exit", 33, 33}, {"proc_exit", 1 << 31, 1 << 31},
		{"proc_raise", 6, 134}, {"proc_raise", 15, 143}, {"proc_raise", 30, 128 + 31},
	} {
		g := newRaw(t, Options{}, nil)
		_, err := g.try(c.call, uint64(c.arg))
		if code := exitCode(t, err); code != c.code {
			t.Errorf("%s(%d): exit code %d, want %d", c.call, c.arg, code, c.code)
		}
	}
	g := newRaw(t, Options{}, nil)
	for _, ignored := range []uint64{0, 13, 16, 17, 22, 27} {
		g.ok("proc_raise", ignored)
	}
	g.want(eNotsup, "proc_raise", 18)
	g.want(eInval, "proc_raise", 31)
}

// TestDrainWakes: a guest that is parked in sock_accept when the drain begins stays parked, although
// somebody connects.
func TestDrainWakes(t *testing.T) {
	listener, addr := listen(t)
	g := newRaw(t, Options{Listeners: []*os.File{listener}}, nil)
	time.AfterFunc(30*time.Millisecond, g.Drain)
	time.AfterFunc(60*time.Millisecond, func() {
		c := dial(t, addr)
		time.Sleep(60 * time.Millisecond)
		_ = c.Close()
		g.Interrupt(143)
	})
	_, err := g.try("sock_accept", 3, 0, atResult)
	if code := exitCode(t, err); code != 143 {
		t.Errorf("exit code %d", code)
	}
	select {
	case <-g.Idle():
	default:
		t.Error("not idle without any connection")
	}
}

// TestDrainEndsKeptAlive: a connection without a request under way sees its end. One goes on whose request is not
// answered, or answered in part only, however long that takes, or of whose protocol nothing is known.
func TestDrainEndsKeptAlive(t *testing.T) {
	listener, addr := listen(t)
	g := newRaw(t, Options{Listeners: []*os.File{listener}}, nil)
	g.quietAfter = 20 * time.Millisecond
	const request, answer = "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
	for _, c := range []struct {
		name, request, answer string
		ends                  bool
	}{
		{"answered", request, answer, true},
		{"not answered", request, "", false},
		{"in the middle of the answer", request, answer[:len(answer)-1], false},
		{"another protocol", "hello\n", "hello you\n", false},
		{"nothing said", "", "", true},
	} {
		client := dial(t, addr)
		defer client.Close()
		g.ok("sock_accept", 3, uint64(flagNonblock), atResult)
		fd := uint64(g.u32(atResult))
		if _, err := client.WriteString(c.request); err != nil {
			t.Fatal(err)
		}
		g.poll(fdSubscription(1, eventFdRead, uint32(fd)), clockSubscription(2, clockMonotonic, 20e6, 0))
		if text, e := g.read(fd, 100); c.request != "" && (text != c.request || e != success) {
			t.Fatalf("%q, errno %d", text, e)
		}
		if _, e := g.write(fd, c.answer); e != success {
			t.Fatal(e)
		}
		g.Drain()
		for range 3 { // each a look at all connections
			g.poll(clockSubscription(2, clockMonotonic, 20e6, 0))
		}
		want := eAgain
		if c.ends {
			want = success
		}
		if text, e := g.read(fd, 100); text != "" || e != want {
			t.Errorf("%s: read %q, errno %d, want %d", c.name, text, e, want)
		}
		if _, e := g.write(fd, "rest"); e != success {
			t.Errorf("%s: write: errno %d", c.name, e)
		}
		g.ok("fd_close", fd)
		g.draining.Store(false)
	}
	select {
	case <-g.Idle():
	default:
		t.Error("not idle")
	}
}

func clockSubscription(userdata uint64, clock uint32, timeout uint64, flags uint16) []byte {
	b := make([]byte, preview1Subscription.size)
	le := binary.LittleEndian
	le.PutUint64(b, userdata)
	b[8] = eventClock
	le.PutUint32(b[16:], clock)
	le.PutUint64(b[24:], timeout)
	le.PutUint16(b[40:], flags)
	return b
}

func fdSubscription(userdata uint64, kind uint8, fd uint32) []byte {
	b := make([]byte, preview1Subscription.size)
	binary.LittleEndian.PutUint64(b, userdata)
	b[8] = kind
	binary.LittleEndian.PutUint32(b[16:], fd)
	return b
}

// dial connects to a listener of the test without Go's poller, so that nothing but the guest waits.
func dial(t *testing.T, addr string) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: portOf(t, addr), Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "client")
}
