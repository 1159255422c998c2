package meter

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/runtime/cgroup"
)

// callEnv makes this program a container's: it calls an address, sends sentBytes and waits for the end of the answer.
const callEnv = "HACHI_METER_CALL"

const sentBytes = 10_000

func TestMain(m *testing.M) {
	if address := os.Getenv(callEnv); address != "" {
		os.Exit(call(address))
	}
	os.Exit(testenv.Main(m))
}

func call(address string) int {
	c, err := net.Dial("tcp", address)
	if err == nil {
		_, err = c.Write(make([]byte, sentBytes))
	}
	if err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// pins is a directory for pins, gone with the test.
func pins(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := fmt.Sprintf("/sys/fs/bpf/hachi-meter-%d", os.Getpid())
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// group makes a container's cgroup, on a machine that has cgroup2.
func group(t testing.TB, name string) *cgroup.Group {
	t.Helper()
	m, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	parent := fmt.Sprintf("/hachi-meter-%d", os.Getpid())
	g, err := m.Create(filepath.Join(parent, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Delete(); err != nil {
			t.Error(err)
		}
		for _, dir := range g.Dirs() {
			os.Remove(filepath.Dir(dir))
		}
	})
	if g.UnifiedPath() == "" {
		t.Skip("needs a cgroup2 file system, and none is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	return g
}

// converse runs a program in g that sends sentBytes to this one, over loopback.
func converse(t *testing.T, g *cgroup.Group) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64)
	go func() {
		defer close(got)
		if c, err := l.Accept(); err == nil {
			n, _ := io.Copy(io.Discard, c)
			c.Close()
			got <- n
		}
	}()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{callEnv + "=" + l.Addr().String()}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != sentBytes {
		t.Fatalf("%d bytes arrived of %d", n, sentBytes)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// newMeter opens a meter with a ledger and pins of the test's own.
func newMeter(t testing.TB, o Options) *Meter {
	t.Helper()
	o.Namespace, o.Ledger = "default", filepath.Join(t.TempDir(), "ledger")
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func here(root string) Options { return Options{BPF: observe.Options{Root: root}} }
