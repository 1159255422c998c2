package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

// Modules by hand: \0asm, one type () -> (), one function, an export, a body.
const (
	wasmHead  = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00"
	export    = "\x07\x0a\x01\x06_start\x00\x00"
	trapBody  = "\x0a\x05\x01\x03\x00\x00\x0b"
	emptyBody = "\x0a\x04\x01\x02\x00\x0b"
)

func TestExitCodes(t *testing.T) {
	for _, want := range []uint32{0, 7, 255} {
		r, code := run(t, kit(t, "exit", itoa(want)))
		if code != want {
			t.Errorf("exit %d: got %d (stderr %q)", want, code, r.stderr.text())
		}
		if x := r.Exit(); x.OOM || time.Since(x.At) > time.Minute {
			t.Errorf("exit %d: got %+v", want, x)
		}
	}
}

func TestWorld(t *testing.T) {
	dir := t.TempDir()
	o := kit(t, "show", "with space", "")
	o.Config.Env = []string{"A=b c", "EMPTY="}
	o.Config.Cwd = "/data"
	o.Config.Preopens = []wire.Preopen{{Guest: "/data", Path: dir}}
	o.Config.Jail.Paths = []jail.Path{{Path: dir}}
	r, code := run(t, o)
	want := `["kit" "show" "with space" ""]` + "\n" + `["A=b c" "EMPTY=" "PWD=/data"]` + "\n/data <nil>\n"
	if got := r.stdout.text(); code != 0 || got != want {
		t.Errorf("code %d, got %q, want %q", code, got, want)
	}
}

func TestStreams(t *testing.T) {
	o := kit(t, "cat")
	r := load(t, o)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("0123456789abcde\n", 1<<16)
	if _, err := io.WriteString(r.stdin, text); err != nil {
		t.Fatal(err)
	}
	r.stdin.Close()
	if x := r.wait(t); x.Code != 0 || r.stdout.text() != text {
		t.Errorf("code %d, %d bytes of %d came back", x.Code, len(r.stdout.text()), len(text))
	}
}

// TestReaderGone: the guest is told; SIGPIPE does not end the engine.
func TestReaderGone(t *testing.T) {
	o := kit(t, "flood", "1000000")
	reader, w := pipe(t)
	defer w.Close()
	o.Stdout = w
	r := load(t, o)
	reader.Close()
	w.Close()
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	if x := r.wait(t); x.Code != 1 || !strings.Contains(r.stderr.text(), "roken pipe") {
		t.Errorf("code %d, stderr %q: want the guest to see EPIPE", x.Code, r.stderr.text())
	}
}

func TestTrap(t *testing.T) {
	o := setup{Options{Binary: engineBinary(t)}, Guest{Name: "trap.wasm"}}
	o.Module = moduleFile(t, wasmHead+export+trapBody)
	r, code := run(t, o)
	if text := r.stderr.text(); code != 134 || !strings.Contains(text, "trap.wasm: wasm error: unreachable") {
		t.Errorf("code %d, stderr %q", code, text)
	}
}

func TestRefused(t *testing.T) {
	bin := engineBinary(t)
	for _, tt := range []struct {
		name, wasm string
		change     func(*setup)
		want       string
	}{
		{"not wasm", "#!/bin/sh\n", nil, "load it.wasm: "},
		{"truncated", wasmHead + export, nil, "load it.wasm: "},
		{"no _start", wasmHead + emptyBody, nil, "no _start function: not a WASI command (build for the target wasip1)"},
		{"reactor", wasmHead + "\x07\x0f\x01\x0b_initialize\x00\x00" + emptyBody, nil, "this is a WASI reactor"},
		{"_start is odd", "\x00asm\x01\x00\x00\x00\x01\x05\x01\x60\x01\x7f\x00\x03\x02\x01\x00" + export + emptyBody, nil, "_start takes parameters"},
		{"import", "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x09\x01\x03env\x01f\x00\x00\x03\x02\x01\x00" +
			"\x07\x0a\x01\x06_start\x00\x01" + emptyBody, nil, "import env.f: not provided (this build serves wasi_snapshot_preview1"},
		{"preopen is not there", wasmHead + export + emptyBody, func(o *setup) {
			o.Config.Preopens = []wire.Preopen{{Guest: "/x", Path: "/does/not/exist"}}
		}, "open /does/not/exist for /x"},
		{"jail", wasmHead + export + emptyBody, func(o *setup) {
			o.Config.Jail.Paths = []jail.Path{{Path: "/does/not/exist"}}
		}, "/does/not/exist"},
		{"too long an environment", wasmHead + export + emptyBody, func(o *setup) {
			o.Config.Env = []string{"A=" + strings.Repeat("x", wire.MaxFrame)}
		}, "shorten args or environment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := setup{Options{Binary: bin}, Guest{Name: "it.wasm"}}
			o.Module = moduleFile(t, tt.wasm)
			if tt.change != nil {
				tt.change(&o)
			}
			r, err := start(t, o)
			if err == nil {
				err = r.Load(context.Background(), r.guest)
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrRefused with %q", err, tt.want)
			}
			select {
			case <-r.Done():
			default:
				t.Error("the engine is still there")
			}
		})
	}
}

func TestNoBinary(t *testing.T) {
	_, err := Start(Options{Binary: filepath.Join(t.TempDir(), "hachi-engine")})
	if err == nil || !strings.Contains(err.Error(), "start engine") {
		t.Errorf("got %v", err)
	}
}

func TestToolbox(t *testing.T) {
	o := setup{Options{Binary: engineBinary(t)}, Guest{Config: wire.Config{Args: []string{"echo", "a", "b"}}}}
	r, code := run(t, o)
	if code != 0 || r.stdout.text() != "a b\n" {
		t.Errorf("code %d, got %q", code, r.stdout.text())
	}
	o.Config.Args = []string{"sleep", "1000"}
	r = load(t, o)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.Stop(syscall.SIGTERM, time.Minute); err != nil {
		t.Fatal(err)
	}
	if x := r.wait(t); x.Code != 143 || time.Since(began) > 2*time.Second {
		t.Errorf("stopped sleep: code %d after %v", x.Code, time.Since(began))
	}
}

// TestKilled: whoever kills an engine, at whatever moment, is told from a guest that ended.
func TestKilled(t *testing.T) {
	t.Run("before ready", func(t *testing.T) {
		r, err := start(t, kit(t, "ready"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(r.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		err = r.Load(context.Background(), r.guest)
		if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "SIGKILL") {
			t.Errorf("got %v, want the signal, and not that the guest was refused", err)
		}
		if x := r.wait(t); x.Code != 137 {
			t.Errorf("code %d", x.Code)
		}
	})
	t.Run("after ready", func(t *testing.T) {
		r := load(t, kit(t, "ready"))
		if err := syscall.Kill(r.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if x := r.wait(t); x.Code != 137 || x.OOM {
			t.Errorf("got %+v", x)
		}
		if err := r.Run(); err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("run after the end: %v", err)
		}
		if err := r.SetMemory(1); err == nil {
			t.Error("limit after the end: no error")
		}
		if err := r.Stop(syscall.SIGTERM, 0); err != nil {
			t.Errorf("stop after the end: %v", err)
		}
		if err := r.Signal(syscall.SIGSTOP); err == nil {
			t.Error("signal after the end: no error")
		}
	})
	t.Run("while running", func(t *testing.T) {
		r := begin(t, kit(t, "ready"))
		if err := syscall.Kill(r.Pid(), syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
		// A Go program turns it into a panic of status 2.
		if x := r.wait(t); x.Code != 2 && x.Code != 139 {
			t.Errorf("got %+v", x)
		}
	})
	t.Run("spinning", func(t *testing.T) {
		r := begin(t, kit(t, "spin"))
		began := time.Now()
		r.Kill()
		if x, took := r.wait(t), time.Since(began); x.Code != 137 || took > 100*time.Millisecond {
			t.Errorf("code %d after %v, want 137 within 100 ms", x.Code, took)
		}
	})
	t.Run("stopped by SIGSTOP", func(t *testing.T) {
		r := begin(t, kit(t, "ready"))
		if err := r.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.Kill()
		if x := r.wait(t); x.Code != 137 {
			t.Errorf("code %d", x.Code)
		}
	})
}

func TestReadyGivesUp(t *testing.T) {
	r, err := start(t, kit(t, "ready"))
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := r.Load(ctx, r.guest); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestNoGuest: a process that was started for nothing goes without a trace.
func TestNoGuest(t *testing.T) {
	r, err := start(t, kit(t, "ready"))
	if err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if x := r.wait(t); x.Code != 137 {
		t.Errorf("got %+v", x)
	}
	if err := r.Load(context.Background(), r.guest); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("load after the end: %v", err)
	}
}

// TestListen: the engine's own sockets are the guest's, and an address that is taken is an error of its own.
func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := kit(t, "echo")
	o.Config.Listeners = []wire.Listener{{Address: freeAddress(t), Name: "tcp-1"}, {Address: taken.Addr().String(), Name: "tcp-2"}}
	r, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	want := "listen tcp " + taken.Addr().String() + ": bind: address already in use"
	if err := r.Load(context.Background(), r.guest); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want ErrListen with %q", err, want)
	}
	if got := r.stdout.text() + r.stderr.text(); got != "" {
		t.Errorf("the guest ran: %q", got)
	}
}

// freeAddress is an address on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTerminal(t *testing.T) {
	master, slave := pty(t)
	o := kit(t, "ready")
	o.Stdin, o.Stdout, o.Stderr, o.Terminal = slave, slave, slave, true
	r := load(t, o)
	slave.Close()
	screen := collect(master)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	screen.await(t, "ready\r\n")
	if sid, err := unix.Getsid(r.Pid()); err != nil || sid != r.Pid() {
		t.Errorf("session of the engine is %d, %v; want its own, %d", sid, err, r.Pid())
	}
	began := time.Now()
	if _, err := master.Write([]byte{'C' - '@'}); err != nil {
		t.Fatal(err)
	}
	if x := r.wait(t); x.Code != 130 || time.Since(began) > 2*time.Second {
		t.Errorf("Ctrl-C: code %d after %v", x.Code, time.Since(began))
	}
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	return master, os.NewFile(peer, "pts")
}
