package containerd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/loopback"
)

// inside runs f on a thread in the network namespace of a process; sockets that f opens stay there.
func inside(pid uint32, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dialer opens connections in the network namespace of a container.
func (c *container) dialer() func(context.Context, string, string) (net.Conn, error) {
	pid := c.task.Pid()
	return func(_ context.Context, network, addr string) (conn net.Conn, err error) {
		err = inside(pid, func() error {
			conn, err = net.DialTimeout(network, addr, 5*time.Second)
			return err
		})
		return conn, err
	}
}

// TestHTTP serves with the sample, in a network namespace of the container's own.
func TestHTTP(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if !w.wasm() {
			return
		}
		w.clean(t)
		w.importWasm(t, "example.test/http:wasm", guest.Built(t, guest.WASI, "samples/hello-http"), "--port", "8080")
		w.image = "example.test/http:wasm"
		c := w.start(t)
		c.stdout.await(t, "serving")
		if err := inside(c.task.Pid(), loopback.Up); err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DialContext: c.dialer()}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		get := func(path string) (string, error) {
			resp, err := client.Get("http://127.0.0.1:8080" + path)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		}
		for _, path := range []string{"/?name=bee", "/healthz"} {
			want := map[string]string{"/?name=bee": "Hello, bee", "/healthz": `"status":"ok"`}[path]
			if body, err := get(path); err != nil || !strings.Contains(body, want) {
				t.Errorf("%s: %q, %v", path, body, err)
			}
		}
		var g errgroup.Group
		g.SetLimit(16)
		for range 200 {
			g.Go(func() error {
				body, err := get("/")
				if err == nil && !strings.HasPrefix(body, "Hello, world") {
					err = fmt.Errorf("%q", body)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Errorf("200 requests, 16 at once: %v", err)
		}
		transport.CloseIdleConnections()
		drainedStop(t, c)
	})
}

// drainedStop sends SIGTERM while a request is half sent: it must still be answered, and then the guest ends.
func drainedStop(t *testing.T, c *container) {
	t.Helper()
	conn, err := c.dialer()(t.Context(), "tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /?name=late HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // until the guest has accepted and waits for the rest
	c.kill(t, syscall.SIGTERM)
	time.Sleep(50 * time.Millisecond)
	if _, err := io.WriteString(conn, "Connection: close\r\n\r\n"); err != nil {
		t.Errorf("a request that was under way was cut off: %v", err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("a request that was under way was not answered: %v", err)
	} else {
		resp.Body.Close()
	}
	if code := c.wait(t); code != 143 {
		t.Errorf("want exit code 143, got %d", code)
	}
}
