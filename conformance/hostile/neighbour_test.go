package hostile

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// patience is how long an answer of the neighbour may take while a hostile guest runs. The machine has other
// work too, and a guest may use the processors that it was given: what counts is that nothing stops.
const patience = time.Second

// neighbour is a well-behaved guest, a web service, under a hachi of its own.
type neighbour struct {
	url    string
	client *http.Client
}

// newNeighbour starts one for the time of the test.
func newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	module := filepath.Join(testenv.Samples(t), "hello-http.wasm")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := guestRun{flags: []string{"-p", address + ":8080"}, file: module}.command(context.Background(), t)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{url: "http://" + address + "/healthz", client: &http.Client{Timeout: 10 * patience, Transport: &http.Transport{}}}
	t.Cleanup(func() { n.stop(t, cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("neighbour said %q: %v", line, err)
	}
	began := time.Now()
	if err := n.ask(); err != nil {
		t.Fatal(err)
	}
	t.Logf("neighbour's first answer: %v", time.Since(began).Round(time.Millisecond))
	return n
}

func (n *neighbour) stop(t *testing.T, cmd *exec.Cmd) {
	n.client.CloseIdleConnections()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("neighbour: exit code %d after SIGTERM, want 143", code)
	}
}

// watch asks the neighbour again and again until the returned function is called, which returns the longest
// time an answer took.
func (n *neighbour) watch() func() (time.Duration, error) {
	var (
		stop    = make(chan struct{})
		done    sync.WaitGroup
		slowest time.Duration
		failed  error
	)
	done.Go(func() {
		for failed == nil {
			began := time.Now()
			failed = n.ask()
			slowest = max(slowest, time.Since(began))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() (time.Duration, error) {
		close(stop)
		done.Wait()
		return slowest, failed
	}
}

func (n *neighbour) ask() error {
	r, err := n.client.Get(n.url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}
