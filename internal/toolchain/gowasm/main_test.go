package gowasm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// patience is for a machine that does other things too; nothing waits for it when all is well.
const patience = 2 * time.Minute

// built compiles a program of testdata once per test process and returns the module.
func built(t *testing.T, name string, env ...string) string {
	t.Helper()
	key := strings.Join(append([]string{name}, env...), "-")
	build, _ := builds.LoadOrStore(key, sync.OnceValues(func() (string, error) {
		top, err := testenv.Source()
		if err != nil {
			return "", err
		}
		// In bin/, where hachi finds its compiled form again by the digest.
		out := filepath.Join(top, "bin", "guests", "gowasm-"+strings.NewReplacer("=", "-", "/", "-").Replace(key)+".wasm")
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return "", err
		}
		tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
		var said bytes.Buffer
		start := time.Now()
		err = Build(context.Background(), Options{
			Package: "./testdata/" + name, Output: tmp, Env: append(os.Environ(), env...), Stderr: &said,
		})
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, &said)
		}
		if info, err := os.Stat(tmp); err == nil {
			t.Logf("built %s: %.1f MB in %v", key, float64(info.Size())/1e6, time.Since(start).Round(100*time.Millisecond))
		}
		return out, os.Rename(tmp, out)
	}))
	out, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var builds sync.Map // key -> func() (string, error)

// guest is a running program.
type guest struct {
	t      *testing.T
	stdout *bufio.Reader
	stderr bytes.Buffer
	done   chan struct{} // closed when it has ended, with
	err    error
}

// start starts a module under hachi; args are hachi run's.
func start(t *testing.T, args ...string) *guest {
	t.Helper()
	cmd := exec.Command(filepath.Join(testenv.Bin(t), "hachi"), append([]string{"run", "--timeout", patience.String()}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, stdout: bufio.NewReader(r), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = w, &g.stderr
	// Pdeathsig goes by the thread that started the process.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(g.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			g.err = cmd.Wait()
		}
	}()
	err = <-started
	_ = w.Close()
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		<-g.done
		_ = r.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// line reads a line that the program prints.
func (g *guest) line() string {
	g.t.Helper()
	s, err := g.stdout.ReadString('\n')
	if err != nil {
		<-g.done
		g.t.Fatalf("guest: %v\n%s%s", g.err, s, &g.stderr)
	}
	return strings.TrimSuffix(s, "\n")
}

// wait waits for a good end and returns what else was printed.
func (g *guest) wait() string {
	g.t.Helper()
	out, err := io.ReadAll(g.stdout)
	<-g.done
	if g.err != nil || err != nil {
		g.t.Fatalf("guest: %v, %v\n%s%s", g.err, err, out, &g.stderr)
	}
	return string(out)
}

// dial connects to the guest, which is about to listen.
func (g *guest) dial(address string) net.Conn {
	g.t.Helper()
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c
		}
		select {
		case <-g.done:
			g.t.Fatalf("guest: %v\n%s", g.err, &g.stderr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePort returns a port of loopback that nobody has for now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
