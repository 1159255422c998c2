package wasi

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestArgsAndEnvironment(t *testing.T) {
	out := collect(t)
	env := []string{"A=b", "EMPTY=", "TEXT=with = and \n", "HOME=/"}
	p := start(t, buildGo(t, "kit"), Options{Args: []string{"kit", "env"}, Env: env, Stdout: out.w, Stderr: out.w})
	got := out.text(t, p)
	if want := strings.Join(env, "\n") + "\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNULInArguments(t *testing.T) {
	if s, err := New(Options{Args: []string{"a\x00b"}}); err == nil {
		_ = s.Close()
		t.Error("an argument with a NUL byte was accepted")
	}
}

// TestStdinParksOneGoroutine: a Go guest that reads its standard input keeps its timers running, and the
// pipe is as blocking for others as it was.
func TestStdinParksOneGoroutine(t *testing.T) {
	r, w := pipe(t)
	nonblocking := flagsOf(t, r) & unix.O_NONBLOCK
	out, log := collect(t), collect(t)
	p := start(t, buildGo(t, "kit"), Options{Args: []string{"kit", "upper"}, Stdin: r, Stdout: out.w, Stderr: log.w})
	for _, line := range []string{"first", "second"} {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			t.Fatal(err)
		}
		out.waitFor(t, strings.ToUpper(line))
		time.Sleep(30 * time.Millisecond)
	}
	if got := flagsOf(t, r) & unix.O_NONBLOCK; got != nonblocking {
		t.Errorf("O_NONBLOCK of the shared description is %#x, was %#x", got, nonblocking)
	}
	_ = w.Close()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var ticks int
	if _, err := fmt.Sscanf(log.text(t, p), "ticks %d", &ticks); err != nil || ticks < 5 {
		t.Errorf("the guest's ticker fired %d times while it read (%v)", ticks, err)
	}
}

// TestSlowReader: a blocked writer waits, and nothing is lost.
func TestSlowReader(t *testing.T) {
	r, w := pipe(t)
	log := collect(t)
	p := start(t, buildGo(t, "kit"), Options{Args: []string{"kit", "flood"}, Stdout: w, Stderr: log.w})
	time.Sleep(50 * time.Millisecond)
	var n int
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 10_000)
		for {
			m, err := r.Read(b)
			n += m
			if err != nil {
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	text := log.text(t, p)
	_ = w.Close()
	wg.Wait()
	if want := 64 * 64 << 10; n != want || text != fmt.Sprintf("wrote %d\n", want) {
		t.Errorf("%d bytes arrived of %d; the guest says %q", n, want, text)
	}
}

// TestBrokenPipe: the guest sees EPIPE; the engine lives.
func TestBrokenPipe(t *testing.T) {
	r, w := pipe(t)
	_ = r.Close()
	g := newRaw(t, Options{Stdout: w}, nil)
	if _, e := g.write(1, "x"); e != 64 {
		t.Errorf("errno %d, want EPIPE", e)
	}
}

// TestStdioKinds writes and reads through everything that a standard stream can be.
func TestStdioKinds(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(t *testing.T, name string, flags int) *os.File {
		f, err := os.OpenFile(name, flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	type ends struct{ guestIn, guestOut, in, out *os.File }
	for _, kind := range []struct {
		name string
		open func(t *testing.T) ends
		kind filetype
	}{
		{"pipe", func(t *testing.T) ends {
			r, in := pipe(t)
			out, w := pipe(t)
			return ends{r, w, in, out}
		}, typeUnknown},
		{"fifo", func(t *testing.T) ends {
			f := open(t, fifo, os.O_RDWR)
			out, w := pipe(t)
			return ends{f, w, f, out}
		}, typeUnknown},
		{"socket", func(t *testing.T) ends {
			a, b := socketPair(t)
			return ends{a, a, b, b}
		}, typeSocketStream},
		{"terminal", func(t *testing.T) ends {
			master, slave := terminal(t)
			return ends{slave, slave, master, master}
		}, typeCharacterDevice},
	} {
		t.Run(kind.name, func(t *testing.T) {
			e := kind.open(t)
			g := newRaw(t, Options{Stdin: e.guestIn, Stdout: e.guestOut}, nil)
			g.ok("fd_fdstat_get", 0, atResult)
			if got := filetype(g.bytes(atResult, 1)[0]); got != kind.kind {
				t.Errorf("file type %d, want %d", got, kind.kind)
			}
			g.ok("fd_fdstat_set_flags", 0, uint64(flagNonblock))
			if _, errno := g.read(0, 10); errno != eAgain {
				t.Errorf("non-blocking read of nothing: errno %d, want EAGAIN", errno)
			}
			g.ok("fd_fdstat_set_flags", 0, 0)
			time.AfterFunc(20*time.Millisecond, func() { _, _ = e.in.Write([]byte("ping\n")) })
			if got, errno := g.read(0, 10); got != "ping\n" || errno != success {
				t.Errorf("blocking read: %q, errno %d", got, errno)
			}
			if n, errno := g.write(1, "pong\n"); n != 5 || errno != success {
				t.Errorf("write: %d, errno %d", n, errno)
			}
			// A terminal echoes first what it was sent.
			var got []byte
			for b := make([]byte, 100); !bytes.Contains(got, []byte("pong")); {
				n, err := e.out.Read(b)
				if err != nil {
					t.Fatalf("read back %q, %v", got, err)
				}
				got = append(got, b[:n]...)
			}
			for _, f := range []*os.File{e.guestIn, e.guestOut} {
				// os.Pipe's own ends are non-blocking already.
				if kind.name != "pipe" && kind.name != "fifo" && flagsOf(t, f)&unix.O_NONBLOCK != 0 {
					t.Error("the description was made non-blocking")
				}
			}
		})
	}
}

// TestBlockingDescriptions: pipes in blocking mode must never hold the engine's thread, whatever is asked.
func TestBlockingDescriptions(t *testing.T) {
	var in, out [2]int
	for _, p := range []*[2]int{&in, &out} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	files := make([]*os.File, 4)
	for i, fd := range slices.Concat(in[:], out[:]) {
		files[i] = os.NewFile(uintptr(fd), "pipe")
		defer files[i].Close()
	}
	g := newRaw(t, Options{Stdin: files[0], Stdout: files[3]}, nil)
	g.ok("fd_fdstat_set_flags", 0, uint64(flagNonblock))
	g.ok("fd_fdstat_set_flags", 1, uint64(flagNonblock))
	if _, e := g.read(0, 100); e != eAgain {
		t.Errorf("read: errno %d, want EAGAIN", e)
	}
	written := 0
	for {
		n, e := g.write(1, strings.Repeat("x", 10_000))
		written += n
		if e == eAgain {
			break
		}
		if e != success {
			t.Fatalf("write: errno %d", e)
		}
	}
	if written < 64<<10 {
		t.Errorf("a pipe took only %d bytes", written)
	}
	// And in the guest's blocking mode the call parks until somebody reads.
	g.ok("fd_fdstat_set_flags", 1, 0)
	go func() {
		time.Sleep(20 * time.Millisecond)
		_, _ = io.CopyN(io.Discard, files[2], int64(written))
	}()
	if n, e := g.write(1, strings.Repeat("y", 10_000)); n != 10_000 || e != success {
		t.Errorf("blocking write: %d, errno %d", n, e)
	}
}

// TestTerminal: wasi-libc takes for a terminal what is a character device without a position.
func TestTerminal(t *testing.T) {
	_, slave := terminal(t)
	g := newRaw(t, Options{Stdin: slave}, nil)
	g.ok("fd_fdstat_get", 0, atResult)
	if base := rights(g.u64(atResult + 8)); base&(rightFdSeek|rightFdTell) != 0 {
		t.Errorf("a terminal has rights %#x", base)
	}
	g.want(eSpipe, "fd_seek", 0, 0, 0, atResult)
	g.want(eBadf, "fd_write", 1, atVector, 0, atResult)
}

// TestStuckTerminal: nobody reads what the guest writes to its terminal; Interrupt still ends it.
func TestStuckTerminal(t *testing.T) {
	master, slave := terminal(t)
	g := newRaw(t, Options{Stdout: slave}, nil)
	time.AfterFunc(100*time.Millisecond, func() { g.Interrupt(143) })
	var err error
	g.put(atData, bytes.Repeat([]byte("x"), 0x1000))
	p, n := g.vector(0x1000)
	for err == nil {
		_, err = g.try("fd_write", 1, p, n, atResult)
	}
	if code := exitCode(t, err); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
	go func() { _, _ = io.Copy(io.Discard, master) }()
}

func TestRegularStdio(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null := openDir(t, os.DevNull)
	g := newRaw(t, Options{Stdin: null, Stdout: f}, nil)
	if got, e := g.read(0, 10); got != "" || e != success {
		t.Errorf("/dev/null: %q, errno %d", got, e)
	}
	if _, e := g.write(1, "new\n"); e != success {
		t.Errorf("write: errno %d", e)
	}
	if _, e := g.read(1, 10); e != eNotcapable {
		t.Errorf("read of a file opened for writing: errno %d", e)
	}
	got, err := os.ReadFile(name)
	if diff := cmp.Diff("old\nnew\n", string(got)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func flagsOf(t *testing.T, f *os.File) int {
	t.Helper()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	err = conn.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return flags
}

func socketPair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// terminal makes a pseudo terminal in blocking mode.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	c, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	slave = os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = slave.Close() })
	own, err := unix.Dup(int(c.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(own), "ptmx")
	t.Cleanup(func() { _ = master.Close() })
	return master, slave
}
