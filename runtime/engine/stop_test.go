package engine

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/runtime/wire"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// stopping stops r and returns its end and how long that took.
func stopping(t *testing.T, r *running, s syscall.Signal, grace time.Duration) (Exit, time.Duration) {
	t.Helper()
	began := time.Now()
	if err := r.Stop(s, grace); err != nil {
		t.Fatal(err)
	}
	return r.wait(t), time.Since(began)
}

func TestStop(t *testing.T) {
	for _, word := range []string{"ready", "spin"} {
		t.Run(word, func(t *testing.T) {
			x, took := stopping(t, begin(t, kit(t, word)), syscall.SIGTERM, time.Minute)
			if x.Code != 143 || x.OOM || took > 5*time.Second {
				t.Errorf("got %+v after %v, want 143 at once", x, took)
			}
		})
	}
	t.Run("before run", func(t *testing.T) {
		r := load(t, kit(t, "ready"))
		x, took := stopping(t, r, syscall.SIGINT, time.Minute)
		if x.Code != 130 || took > 5*time.Second {
			t.Errorf("got %+v after %v", x, took)
		}
		if got := r.stdout.text(); got != "" {
			t.Errorf("the guest ran: %q", got)
		}
	})
	t.Run("engine does not react", func(t *testing.T) {
		r := begin(t, kit(t, "ready"))
		if err := r.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		awaitStopped(t, r.Pid())
		x, took := stopping(t, r, syscall.SIGTERM, 200*time.Millisecond)
		if x.Code != 143 || took < 200*time.Millisecond+killDelay {
			t.Errorf("got %+v after %v", x, took)
		}
	})
	t.Run("ends by itself meanwhile", func(t *testing.T) {
		r := load(t, kit(t, "exit", "3"))
		if err := r.Run(); err != nil {
			t.Fatal(err)
		}
		r.wait(t)
		if x, _ := stopping(t, r, syscall.SIGTERM, 0); x.Code != 3 {
			t.Errorf("code %d", x.Code)
		}
	})
	t.Run("signal from elsewhere", func(t *testing.T) {
		r := begin(t, kit(t, "ready"))
		if err := syscall.Kill(r.Pid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if x := r.wait(t); x.Code != 143 {
			t.Errorf("code %d", x.Code)
		}
	})
}

// TestGrace: connections that are open go on for the grace, new ones wait.
func TestGrace(t *testing.T) {
	const grace = 500 * time.Millisecond
	for _, tt := range []struct {
		name      string
		act       func(r *running, c net.Conn) error
		min, max  time.Duration
		wantAlive bool
	}{
		{"to its end", func(*running, net.Conn) error { return nil }, grace, grace + killDelay, true},
		{"client closes", func(_ *running, c net.Conn) error { return c.Close() }, 0, grace - 50*time.Millisecond, false},
		{"a second stop hurries", func(r *running, _ net.Conn) error { return r.Stop(syscall.SIGINT, 0) }, 0, grace - 50*time.Millisecond, false},
		{"a second stop does not delay", func(r *running, _ net.Conn) error { return r.Stop(syscall.SIGINT, time.Hour) }, grace, grace + killDelay, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := kit(t, "echo")
			address := freeAddress(t)
			o.Config.Listeners = []wire.Listener{{Address: address, Name: "tcp-1"}}
			r := begin(t, o)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			echo(t, c)
			began := time.Now()
			if err := r.Stop(syscall.SIGTERM, grace); err != nil {
				t.Fatal(err)
			}
			if tt.wantAlive {
				echo(t, c)
			}
			if err := tt.act(r, c); err != nil {
				t.Fatal(err)
			}
			x, took := r.wait(t), time.Since(began)
			if x.Code != 143 || took < tt.min || took > tt.max {
				t.Errorf("code %d after %v, want 143 after %v to %v", x.Code, took, tt.min, tt.max)
			}
		})
	}
}

func echo(t *testing.T, c net.Conn) {
	t.Helper()
	b := make([]byte, 4)
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); err != nil || string(b) != "ping" {
		t.Fatalf("echo: %q, %v", b, err)
	}
}

// awaitStopped waits until every thread of a process has taken its SIGSTOP.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	threads := fmt.Sprintf("/proc/%d/task/*/stat", pid)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stats, err := filepath.Glob(threads)
		if err != nil || len(stats) == 0 {
			t.Fatalf("threads of %d: %v, %v", pid, stats, err)
		}
		running := slices.ContainsFunc(stats, func(path string) bool {
			stat, err := os.ReadFile(path)
			_, state, _ := strings.Cut(string(stat), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
		if !running {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d did not stop", pid)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Run("ceiling", func(t *testing.T) {
		o := kit(t, "eat", "64")
		o.Config.Memory = 32 << 20
		r := begin(t, o)
		fmt.Fprintln(r.stdin)
		if x := r.wait(t); x.Code != 137 || !x.OOM {
			t.Errorf("got %+v, want an OOM (stderr %q)", x, r.stderr.text())
		}
	})
	t.Run("lowered", func(t *testing.T) {
		r := begin(t, kit(t, "eat", "16"))
		fmt.Fprintln(r.stdin)
		r.stdout.await(t, "ate 1")
		if err := r.SetMemory(24 << 20); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			fmt.Fprintln(r.stdin)
		}
		if x := r.wait(t); x.Code != 137 || !x.OOM {
			t.Errorf("got %+v, want an OOM (stdout %q)", x, r.stdout.text())
		}
	})
	t.Run("raised", func(t *testing.T) {
		o := kit(t, "eat", "64")
		o.Config.Memory = 32 << 20
		r := begin(t, o)
		if err := r.SetMemory(0); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(r.stdin)
		r.stdout.await(t, "ate 1")
		if x, _ := stopping(t, r, syscall.SIGTERM, 0); x.Code != 143 || x.OOM {
			t.Errorf("got %+v", x)
		}
	})
}

func TestThrottle(t *testing.T) {
	r := begin(t, kit(t, "spin"))
	var w sync.WaitGroup
	defer w.Wait()
	ctx := t.Context()
	w.Go(func() { r.Throttle(ctx, 0.3) })
	time.Sleep(100 * time.Millisecond)
	before, at := r.cpuTime(), time.Now()
	time.Sleep(1500 * time.Millisecond)
	share := float64(r.cpuTime()-before) / float64(time.Since(at))
	if share < 0.05 || share > 0.45 {
		t.Errorf("the guest got %.2f of a CPU, want about 0.3", share)
	}
	if x, took := stopping(t, r, syscall.SIGTERM, time.Second); x.Code != 143 || took > 5*time.Second {
		t.Errorf("stop of a throttled guest: code %d after %v", x.Code, took)
	}
}
