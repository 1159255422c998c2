package wasi

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestGoServer: an ordinary Go net/http server on a preopened listener.
func TestGoServer(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "greeting"), []byte("hello from a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, addr := listen(t)
	out := collect(t)
	p := start(t, buildGo(t, "httpd"), Options{
		Args: []string{"httpd"}, Stdout: out.w, Stderr: out.w,
		Listeners: []*os.File{listener},
		Preopens:  []Preopen{{Guest: "/", Dir: openDir(t, root), ReadOnly: true}},
	})
	out.waitFor(t, "serving")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: patience}
	url := "http://" + addr

	t.Run("file", func(t *testing.T) {
		if got := request(t, client, url+"/file", ""); got != "hello from a file" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("100 concurrent", func(t *testing.T) {
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				body := strings.Repeat(fmt.Sprint(i, " "), 1000)
				if got := request(t, client, url+"/echo", body); got != body {
					t.Errorf("request %d: another body came back, of %d bytes", i, len(got))
				}
				if got := request(t, client, url+"/slow", ""); got != "slept" {
					t.Errorf("request %d: %q", i, got)
				}
			})
		}
		wg.Wait()
		// Each sleeps 0.2 s: one after the other they would take 20 s.
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
	t.Run("large body", func(t *testing.T) {
		body := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB: more than socket buffers hold
		if got := request(t, client, url+"/echo", body); got != body {
			t.Errorf("another body came back, of %d bytes", len(got))
		}
	})
	t.Run("idle", func(t *testing.T) {
		runtime.GC()
		before := cpuTime(t)
		time.Sleep(500 * time.Millisecond)
		if used := cpuTime(t) - before; used > 50*time.Millisecond {
			t.Errorf("a waiting guest used %v of 500ms", used)
		}
	})
	t.Run("drain", func(t *testing.T) {
		if n := p.Connections(); n == 0 {
			t.Error("no connection is open though the client keeps them alive")
		}
		p.Drain()
		select {
		case <-p.Idle():
			t.Error("idle while connections are open")
		case <-time.After(20 * time.Millisecond):
		}
		if got := request(t, client, url+"/echo", "open connections go on"); got != "open connections go on" {
			t.Errorf("got %q", got)
		}
		late, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		if _, err := late.Write([]byte("GET /slow HTTP/1.0\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		_ = late.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
		if n, err := late.Read(make([]byte, 1)); err == nil {
			t.Errorf("a draining guest answered a new connection with %d bytes", n)
		}
		client.CloseIdleConnections()
		select {
		case <-p.Idle():
		case <-time.After(patience):
			t.Errorf("not idle: %d connections", p.Connections())
		}
	})
	p.Interrupt(143)
	if code := p.wait(); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
}

func request(t *testing.T, client *http.Client, url, body string) string {
	t.Helper()
	r, err := client.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", url, r.Status, err)
	}
	return string(b)
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
