package wait

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func want(t *testing.T, p *Poller, h *Handle, e Events) {
	t.Helper()
	if err := p.Want(h, e); err != nil {
		t.Fatal(err)
	}
}

func TestReadyAndTimeout(t *testing.T) {
	p := newPoller(t)
	r, w := newPipe(t)
	reader, writer := p.Add(r), p.Add(w)
	p.Begin()
	want(t, p, reader, Read)
	began := time.Now()
	if n, err := p.Wait(20 * time.Millisecond); n != 0 || err != nil || time.Since(began) < 20*time.Millisecond {
		t.Errorf("nothing is ready: %d, %v after %v", n, err, time.Since(began))
	}
	if n, err := p.Wait(0); n != 0 || err != nil {
		t.Errorf("a look: %d, %v", n, err)
	}
	p.Begin()
	want(t, p, reader, Read)
	want(t, p, writer, Write)
	if n, err := p.Wait(Forever); n != 1 || err != nil || writer.Ready(p) != Write || reader.Ready(p) != 0 {
		t.Errorf("writer: %d, %v, %v, %v", n, err, writer.Ready(p), reader.Ready(p))
	}
	time.AfterFunc(20*time.Millisecond, func() { _, _ = unix.Write(w, []byte("x")) })
	p.Begin()
	want(t, p, reader, Read)
	// The writer is still registered and always ready, but nobody wants it any more.
	if n, err := p.Wait(Forever); n != 1 || err != nil || reader.Ready(p) != Read || writer.Ready(p) != 0 {
		t.Errorf("reader: %d, %v, %v, %v", n, err, reader.Ready(p), writer.Ready(p))
	}
	// Level-triggered: what was not taken is there in the next round, without a wait.
	p.Begin()
	want(t, p, reader, Read)
	if n, err := p.Wait(Forever); n != 1 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// TestAfterTimeout: a deadline that has passed does not cut the following waits short.
func TestAfterTimeout(t *testing.T) {
	p := newPoller(t)
	r, w := newPipe(t)
	h := p.Add(r)
	p.Begin()
	want(t, p, h, Read)
	if n, err := p.Wait(time.Millisecond); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _, _ = unix.Write(w, []byte("x")) })
	if n, err := p.Wait(Forever); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestHangup(t *testing.T) {
	p := newPoller(t)
	r, w := newPipe(t)
	h := p.Add(r)
	p.Begin()
	want(t, p, h, Read)
	if err := unix.Dup3(r, w, unix.O_CLOEXEC); err != nil { // closes the writing end
		t.Fatal(err)
	}
	if n, err := p.Wait(Forever); n != 1 || err != nil || h.Ready(p) != Read|Hangup {
		t.Error(n, err, h.Ready(p))
	}
}

func TestRegularFileIsAlwaysReady(t *testing.T) {
	p := newPoller(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := p.Add(int(f.Fd()))
	for range 2 {
		p.Begin()
		want(t, p, h, Read)
		want(t, p, h, Write)
		if n, err := p.Wait(Forever); n != 1 || err != nil || h.Ready(p) != Read|Write {
			t.Error(n, err, h.Ready(p))
		}
	}
}

func TestInterruptAndWake(t *testing.T) {
	p := newPoller(t)
	time.AfterFunc(10*time.Millisecond, p.Wake)
	p.Begin()
	if n, err := p.Wait(time.Hour); n != 0 || !errors.Is(err, ErrWoken) {
		t.Error(n, err)
	}
	if n, err := p.Wait(time.Millisecond); n != 0 || err != nil {
		t.Errorf("after a wake-up: %d, %v", n, err)
	}
	p.Wake()
	if _, err := p.Wait(Forever); !errors.Is(err, ErrWoken) {
		t.Errorf("woken before the wait: %v", err)
	}
	time.AfterFunc(10*time.Millisecond, p.Interrupt)
	for range 3 {
		if n, err := p.Wait(Forever); n != 0 || !errors.Is(err, ErrInterrupted) {
			t.Error(n, err)
		}
	}
	p.Wake() // must not hide it
	if _, err := p.Wait(0); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
}

// TestManyStale: interests that ended leave in batches and hide nothing.
func TestManyStale(t *testing.T) {
	p := newPoller(t)
	p.Begin()
	for range 2*batch + 10 {
		_, w := newPipe(t)
		want(t, p, p.Add(w), Write)
	}
	r, w := newPipe(t)
	h := p.Add(r)
	if n, err := p.Wait(Forever); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p.Begin()
	want(t, p, h, Read)
	if n, err := p.Wait(Forever); n != 1 || err != nil || h.Ready(p) != Read {
		t.Error(n, err, h.Ready(p))
	}
}

func TestSlotsAreReused(t *testing.T) {
	p := newPoller(t)
	for range 100 {
		r, w := newPipe(t)
		h := p.Add(r)
		p.Begin()
		want(t, p, h, Read)
		if _, err := unix.Write(w, []byte("x")); err != nil {
			t.Fatal(err)
		}
		p.Remove(h)
		if n, err := p.Wait(0); n != 0 || err != nil {
			t.Fatal("an event of a removed handle:", n, err)
		}
	}
	if len(p.slots) != 1 {
		t.Errorf("%d slots for one handle at a time", len(p.slots))
	}
}

func BenchmarkWaitReady(b *testing.B) {
	p, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	h := p.Add(fds[1])
	for b.Loop() {
		p.Begin()
		_ = p.Want(h, Write)
		if n, err := p.Wait(Forever); n != 1 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func TestCloseReleasesTheDescriptor(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	fd := p.epfd
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the epoll descriptor: %v, want EBADF", err)
	}
}
