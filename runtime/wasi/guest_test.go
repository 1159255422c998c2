package wasi

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

// guests are the programs of testdata, built when a test first wants them.
var guests struct {
	mu    sync.Mutex
	dir   string
	built map[string][]byte
}

// buildGo compiles testdata/name as a wasip1 command.
func buildGo(t testing.TB, name string) []byte {
	t.Helper()
	return build(t, name, func(out string) *exec.Cmd {
		c := exec.Command("go", "build", "-o", out, "./testdata/"+name)
		c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return c
	})
}

// buildC compiles testdata/name with clang and wasi-libc.
func buildC(t testing.TB, name string) []byte {
	t.Helper()
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("needs clang: apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32")
	}
	return build(t, name, func(out string) *exec.Cmd {
		return exec.Command("clang", "--target=wasm32-wasi", "--sysroot=/", "-I/usr/include/wasm32-wasi",
			"-L/usr/lib/wasm32-wasi", "-O1", "-Wall", "-Werror", "-o", out, "testdata/"+name)
	})
}

func build(t testing.TB, name string, command func(out string) *exec.Cmd) []byte {
	t.Helper()
	guests.mu.Lock()
	defer guests.mu.Unlock()
	if b, ok := guests.built[name]; ok {
		return b
	}
	if guests.dir == "" {
		dir, err := os.MkdirTemp("", "hachi-guests")
		if err != nil {
			t.Fatal(err)
		}
		guests.dir, guests.built = dir, map[string][]byte{}
	}
	out := filepath.Join(guests.dir, name+".wasm")
	c := command(out)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build guest %s: %v\n%s", name, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	guests.built[name] = b
	return b
}

// process is a guest that runs in a goroutine.
type process struct {
	*System
	t    testing.TB
	done chan struct{}
	code uint32
	err  error
}

// start runs a guest; the test's end stops it.
func start(t testing.TB, module []byte, o Options) *process {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(compiled))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{System: s, t: t, done: make(chan struct{})}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		p.wait()
		_ = rt.Close(ctx)
	})
	guest, err := rt.CompileModule(ctx, module)
	if err == nil {
		err = s.Instantiate(ctx, rt, guest)
	}
	if err != nil {
		close(p.done)
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_, err := rt.InstantiateModule(ctx, guest, wazero.NewModuleConfig())
		var exit *sys.ExitError
		if errors.As(err, &exit) {
			p.code = exit.ExitCode()
		} else {
			p.err = err
		}
	}()
	return p
}

// wait returns the guest's exit code.
func (p *process) wait() uint32 {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("the guest does not end")
	}
	if p.err != nil {
		p.t.Errorf("guest: %v", p.err)
	}
	return p.code
}

// output collects what a guest writes into a pipe.
type output struct {
	w    *os.File
	mu   sync.Mutex
	b    bytes.Buffer // guarded by mu
	done chan struct{}
}

// collect makes a pipe whose writing end is for the guest.
func collect(t testing.TB) *output {
	t.Helper()
	r, w := pipe(t)
	o := &output{w: w, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		var piece [4096]byte
		for {
			n, err := r.Read(piece[:])
			o.mu.Lock()
			o.b.Write(piece[:n])
			o.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return o
}

// text is all that was written; the guest must have ended and been closed.
func (o *output) text(t *testing.T, p *process) string {
	t.Helper()
	p.wait()
	_ = p.Close()
	_ = o.w.Close()
	select {
	case <-o.done:
	case <-time.After(patience):
		t.Fatal("a copy of the pipe is still open")
	}
	return o.b.String()
}

// waitFor waits until the guest has written want.
func (o *output) waitFor(t testing.TB, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		o.mu.Lock()
		found := bytes.Contains(o.b.Bytes(), []byte(want))
		text := o.b.String()
		o.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the guest did not write %q but %q", want, text)
		}
	}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// listen opens a TCP listener on loopback as the runtime hands it in.
func listen(t testing.TB) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, l.Addr().String()
}

// openDir opens a directory for a preopen.
func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
