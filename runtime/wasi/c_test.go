package wasi

import (
	"io"
	"net"
	"os"
	"testing"
)

// TestCServer: wasi-libc steps over the listener to find its preopens, and a plain blocking accept loop works.
func TestCServer(t *testing.T) {
	module := buildC(t, "server.c")
	root := t.TempDir()
	if err := os.WriteFile(root+"/greeting", []byte("hello "), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, addr := listen(t)
	out := collect(t)
	p := start(t, module, Options{
		Args: []string{"server"}, Stdout: out.w, Stderr: out.w, Listeners: []*os.File{listener},
		Preopens: []Preopen{{Guest: "/", Dir: openDir(t, root)}},
	})
	out.waitFor(t, "serving a pipe\n")
	for range 3 {
		if got := converse(t, addr, "you"); got != "hello you" {
			t.Errorf("got %q", got)
		}
	}
	// The connection stays open until the system is closed: nobody reads the end of it.
	c := dial(t, addr)
	defer c.Close()
	if _, err := c.WriteString("quit"); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// exchange sends a text and returns the answer up to the end of the connection.
func converse(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
