package hostile

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTaking runs guests that take all there is of something, or ask for more than there can be.
func TestTaking(t *testing.T) {
	n := newNeighbour(t)
	exhaust := program(t, "exhaust")
	for _, what := range []string{"fds", "sockets", "polls", "edges", "vectors", "sizes", "listing"} {
		t.Run(what, func(t *testing.T) {
			g := guestRun{file: exhaust, flags: []string{"-v", volume(t) + ":/v"}, args: []string{what}, within: 30 * time.Second}
			g.check(t, n)
		})
	}
	t.Run("long arguments", func(t *testing.T) {
		g := guestRun{file: exhaust, args: []string{"arguments"}}
		total := len(exhaust) + len("arguments") + 2
		for i := range 8 {
			a := strings.Repeat("x", 100_000)
			e := "N" + strconv.Itoa(i) + "=" + a
			g.args, g.flags = append(g.args, a), append(g.flags, "-e", e)
			total += len(a) + len(e) + 2
		}
		g.says = []string{strconv.Itoa(total) + " bytes"}
		g.check(t, n)
	})
	t.Run("many arguments", func(t *testing.T) {
		const many = 100_000
		g := guestRun{file: exhaust, args: append([]string{"arguments"}, make([]string, many)...)}
		g.says = []string{strconv.Itoa(many+len(exhaust)+len("arguments")+2) + " bytes"}
		g.check(t, n)
	})
	t.Run("gigabytes to a reader", func(t *testing.T) {
		g := guestRun{file: exhaust, args: []string{"flood", "2048"}, within: 30 * time.Second}
		g.check(t, n)
	})
}

// TestUnread: a guest whose output nobody reads waits, costs nothing, and can be ended.
func TestUnread(t *testing.T) {
	n := newNeighbour(t)
	for name, c := range map[string]struct {
		flags []string
		stop  syscall.Signal
		code  int
	}{
		"timeout": {flags: []string{"--timeout", "1s"}, code: 124},
		"SIGTERM": {stop: syscall.SIGTERM, code: 143},
		"SIGINT":  {stop: syscall.SIGINT, code: 130},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			watch := n.watch()
			cmd := guestRun{flags: c.flags, file: program(t, "exhaust"), args: []string{"flood", "4096"}}.command(context.Background(), t)
			cmd.Stdout = w
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.stop != 0 {
				awaitFull(t, w)
				began = time.Now()
				_ = cmd.Process.Signal(c.stop)
			}
			_ = cmd.Wait() // the code tells
			o := ended(cmd, began, &head{}, &head{})
			slowest, err := watch()
			if o.code != c.code || o.took > 2*time.Second || o.peak > 40<<20 || err != nil || slowest > patience {
				t.Errorf("exit code %d after %v with %d MiB, want %d; neighbour %v, %v", o.code, o.took, o.peak>>20, c.code, slowest, err)
			}
		})
	}
	t.Run("reader left", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		r.Close()
		var stderr head
		cmd := guestRun{file: program(t, "exhaust"), args: []string{"flood", "4096"}}.command(context.Background(), t)
		cmd.Stdout, cmd.Stderr = w, &stderr
		_ = cmd.Run() // the code tells
		if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(stderr.b.String(), "errno 64") {
			t.Errorf("exit code %d, %q; want 3 after EPIPE", code, stderr.b.String())
		}
	})
}

// awaitFull waits until a pipe takes no more.
func awaitFull(t *testing.T, w *os.File) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for time.Now().Before(deadline) {
		p := []unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}
		if n, err := unix.Poll(p, 0); err == nil && n == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nobody fills the pipe")
}

// volume is a directory with what exhaust expects in it.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("link-to-itself", filepath.Join(dir, "link-to-itself")); err != nil {
		t.Fatal(err)
	}
	return dir
}
