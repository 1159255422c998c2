package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/wire"
)

// fake is an engine in the hands of its guest.
func fake(mode string) int {
	control := os.NewFile(wire.ControlFD, "control")
	say := func(m *wire.Message) { _ = wire.Write(control, m) }
	ready := &wire.Message{Ready: &wire.Ready{}}
	exit := &wire.Message{Exit: &wire.Exit{Code: 3}}
	if mode == "deaf" {
		time.Sleep(time.Hour)
	}
	if _, _, err := wire.Receive(control); err != nil {
		return 1
	}
	switch mode {
	case "garbage":
		_, _ = control.Write([]byte("\x05\x00\x00\x00hello"))
	case "huge":
		_, _ = control.Write(binary.LittleEndian.AppendUint32(nil, 1<<31))
	case "half":
		_, _ = control.Write([]byte{200, 0, 0, 0, '{'})
		return 0
	case "empty":
		say(&wire.Message{})
	case "exit first":
		say(exit)
	case "answers unasked":
		say(&wire.Message{Limited: &wire.Limited{}})
	case "mute":
	case "closes":
		control.Close()
	case "floods":
		for {
			say(ready)
		}
	case "closes later":
		say(ready)
		control.Close()
	case "escapes":
		say(&wire.Message{Failed: &wire.Failed{Error: "no \x1b]0;title\a module\n" + strings.Repeat("x", 50<<10)}})
	case "lingers":
		say(ready)
		say(exit)
	case "talks on":
		say(ready)
		say(exit)
		for {
			say(exit)
		}
	case "lies":
		say(ready)
		say(&wire.Message{Exit: &wire.Exit{Code: 77}})
		return 5
	case "claims OOM":
		say(ready)
		say(&wire.Message{Exit: &wire.Exit{Code: 0, OOM: true}})
		return 0
	case "says nothing and ends":
		return 9
	case "deaf later":
		say(ready)
	case "hands out its socket":
		// A process of its own keeps the engine's end open, with more on the way.
		say(ready)
		if _, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "3"}, &syscall.ProcAttr{Files: []uintptr{wire.ControlFD}}); err != nil {
			return 1
		}
		return 0
	}
	time.Sleep(time.Hour)
	return 0
}

func fakeEngine(t *testing.T, mode string) setup {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fake-"+mode)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return setup{Options{Binary: path}, Guest{Config: wire.Config{Args: []string{"x"}}}}
}

// TestHostileLoad: what an engine does before its guest is ready ends in an error, soon.
func TestHostileLoad(t *testing.T) {
	for mode, want := range map[string]string{
		"garbage":               "broke the protocol",
		"huge":                  "broke the protocol",
		"half":                  "ended with status 0 before its guest was loaded",
		"empty":                 "broke the protocol",
		"exit first":            "broke the protocol",
		"answers unasked":       "broke the protocol",
		"closes":                "was ended by SIGKILL",
		"mute":                  "load guest: enough",
		"deaf":                  "load guest: enough",
		"says nothing and ends": "ended with status 9",
		"escapes":               "engine refused: no  ]0;title  module xxx",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			o := fakeEngine(t, mode)
			if mode == "deaf" { // more than a socket holds
				o.Config.Env = []string{strings.Repeat("x", 4<<20)}
			}
			r, err := start(t, o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Second, errors.New("enough"))
			defer cancel()
			err = r.Load(ctx, r.guest)
			if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > maxReason+100 {
				t.Errorf("got %v, want %q", err, want)
			}
			if strings.ContainsAny(err.Error(), "\x1b\a\n") {
				t.Errorf("control characters in %q", err)
			}
			select {
			case <-r.Done():
			default:
				t.Error("engine is still there")
			}
		})
	}
}

// TestHostileRun: what an engine does later ends it, and its word counts for its own exit code at most.
func TestHostileRun(t *testing.T) {
	for mode, want := range map[string]Exit{
		"floods":               {Code: 137},
		"closes later":         {Code: 137},
		"lingers":              {Code: 3},
		"talks on":             {Code: 3},
		"lies":                 {Code: 77},
		"claims OOM":           {Code: 137, OOM: true},
		"hands out its socket": {Code: 0},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := load(t, fakeEngine(t, mode))
			_ = r.Run() // it may be over already
			x := r.wait(t)
			x.At = time.Time{}
			if x != want {
				t.Errorf("got %+v, want %+v", x, want)
			}
		})
	}
}

// TestDeaf: nothing waits for an engine that does not read.
func TestDeaf(t *testing.T) {
	r := load(t, fakeEngine(t, "deaf later"))
	if err := unix.Kill(r.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var calls sync.WaitGroup
	var refused atomic.Int64
	for range 2 * backlog {
		calls.Go(func() {
			if err := r.SetMemory(1); err != nil && strings.Contains(err.Error(), "does not listen") {
				refused.Add(1)
			}
		})
	}
	calls.Wait()
	if n := refused.Load(); n != backlog {
		t.Errorf("%d of %d calls were refused, want %d", n, 2*backlog, backlog)
	}
	if err := r.Stop(syscall.SIGTERM, 0); err != nil {
		t.Error(err)
	}
	if x := r.wait(t); x.Code != 143 || time.Since(began) > 5*time.Second {
		t.Errorf("got %+v after %v", x, time.Since(began))
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	for _, word := range []string{"ready", "spin"} {
		r := begin(t, kit(t, word))
		var w sync.WaitGroup
		for range 8 {
			w.Go(func() {
				_ = r.SetMemory(1 << 30)
				_ = r.Signal(syscall.SIGCONT)
				_ = r.Stop(syscall.SIGTERM, 50*time.Millisecond)
				r.Kill()
				<-r.Done()
				_ = r.Exit()
				_ = r.Run()
			})
		}
		w.Wait()
		if code := r.Exit().Code; code != 137 && code != 143 {
			t.Errorf("code %d", code)
		}
	}
}

func TestCompiler(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	compile := Compiler(engineBinary(t), nil)
	if err := compile(context.Background(), moduleFile(t, "no module at all"), out); err == nil || !strings.Contains(err.Error(), "module") {
		t.Errorf("bad module: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	if err := compile(ctx, moduleFile(t, wasmHead+export+emptyBody), out); err != nil && !strings.Contains(err.Error(), "enough") {
		t.Errorf("canceled: %v", err)
	}
	if err := Compiler(filepath.Join(t.TempDir(), "none"), nil)(context.Background(), out, out); err == nil {
		t.Error("no binary: no error")
	}
}
