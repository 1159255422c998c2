package stdio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

// work is a directory for what the tests build.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "stdio-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testenv.Main(m)
	os.RemoveAll(work)
	os.Exit(code)
}

// spotless fails the test if it ends with more goroutines, descriptors or children than it began with. It is called first.
func spotless(t *testing.T) {
	t.Helper()
	old := goleak.IgnoreCurrent()
	before := descriptors(t)
	t.Cleanup(func() {
		if err := goleak.Find(old); err != nil {
			t.Error(err)
		}
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors are left open", after-before)
		}
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			t.Errorf("a child is left: %d, %v", pid, err)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func newFifo(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client opens a fifo's other end as containerd's client does; it is closed with the test.
func client(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func open(t *testing.T, c Config) *Streams {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// process runs a shell script with the streams, in a session with the terminal if there is one.
func process(t *testing.T, s *Streams, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	if s.console != nil {
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Started()
	return cmd
}

// wait waits for the process's end as the shim does: it finishes the streams then.
func wait(t *testing.T, cmd *exec.Cmd, s *Streams) {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Errorf("process: %v", err)
	}
	s.Finish()
}

// readAll reads to the end, which has to come.
func readAll(t *testing.T, f *os.File) []byte {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, f); err != nil {
		t.Fatalf("after %d bytes: %v", b.Len(), err)
	}
	return b.Bytes()
}
