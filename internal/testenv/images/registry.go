package images

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Registry starts an image registry as a process of its own on loopback and returns its address, for
// example "127.0.0.1:40123". It ends with the test. The arguments are conformance/registry's, such as
// "-user", "name:password".
func Registry(t testing.TB, args ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "registry")
	_, here, _, _ := runtime.Caller(0) // the test may have changed its directory
	build := exec.Command("go", "build", "-o", program, "github.com/hachi-run/hachi/conformance/registry")
	build.Dir = filepath.Dir(here)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the registry: %v\n%s", err, text)
	}
	c := exec.Command(program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop the registry: %v", err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("registry: %v\n%s", err, &stderr)
		}
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("registry: %v\n%s", err, &stderr)
	}
	return strings.TrimSpace(address)
}
