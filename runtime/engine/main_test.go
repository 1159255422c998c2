package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/runtime/wire"
)

// work is a directory for what the tests build.
var work string

func TestMain(m *testing.M) {
	if mode, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "fake-"); ok {
		os.Exit(fake(mode))
	}
	if os.Getenv(parentEnv) != "" {
		os.Exit(parent())
	}
	var err error
	if work, err = os.MkdirTemp("", "engine-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testenv.Main(m)
	os.RemoveAll(work)
	os.Exit(code)
}

// engineBinary is hachi-engine of this tree.
func engineBinary(t testing.TB) string {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

var built = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(work, "hachi-engine")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, testenv.Module+"/cmd/hachi-engine")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hachi-engine: %w\n%s", err, out)
	}
	return bin, nil
})

// artifacts are the compiled forms of modules by path.
var artifacts sync.Map

// open opens a module and its artefact, which a real compile worker makes once.
func open(t testing.TB, path string) (module, artifact *os.File) {
	t.Helper()
	module = openFile(t, path)
	once, _ := artifacts.LoadOrStore(path, sync.OnceValues(func() (string, error) {
		out, err := os.CreateTemp(work, "artifact-")
		if err != nil {
			return "", err
		}
		defer out.Close()
		return out.Name(), Compiler(engineBinary(t), nil)(context.Background(), module, out)
	}))
	name, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return module, openFile(t, name)
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// moduleFile is a module of these bytes.
func moduleFile(t testing.TB, wasm string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "module.wasm")
	if err := os.WriteFile(path, []byte(wasm), 0o600); err != nil {
		t.Fatal(err)
	}
	return openFile(t, path)
}

// setup is a process and what it runs.
type setup struct {
	Options
	Guest
}

// kit runs a word of testdata/kit.
func kit(t testing.TB, args ...string) setup {
	t.Helper()
	o := setup{Options{Binary: engineBinary(t)}, Guest{Name: "kit.wasm", Config: wire.Config{Args: append([]string{"kit"}, args...)}}}
	o.Module, o.Artifact = open(t, guest.Built(t, guest.WASI, "runtime/engine/testdata/kit"))
	return o
}

// running is an engine under test.
type running struct {
	*Process
	guest          Guest
	stdin          io.WriteCloser
	stdout, stderr *output
}

// load starts an engine with pipes for what o leaves open, and waits until its guest is loaded.
func load(t testing.TB, o setup) *running {
	t.Helper()
	r, err := start(t, o)
	if err == nil {
		err = r.Load(context.Background(), r.guest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func start(t testing.TB, o setup) (*running, error) {
	t.Helper()
	r := &running{guest: o.Guest}
	var theirs []*os.File
	if o.Stdin == nil {
		in, w := pipe(t)
		o.Stdin, r.stdin, theirs = in, w, append(theirs, in)
		t.Cleanup(func() { w.Close() })
	}
	for _, s := range []struct {
		file **os.File
		out  **output
	}{{&o.Stdout, &r.stdout}, {&o.Stderr, &r.stderr}} {
		if *s.file == nil {
			out, w := pipe(t)
			*s.file, *s.out, theirs = w, collect(out), append(theirs, w)
		}
	}
	p, err := Start(o.Options)
	for _, f := range theirs {
		f.Close()
	}
	t.Cleanup(func() {
		if p != nil {
			p.Kill()
			<-p.Done()
		}
		for _, out := range []*output{r.stdout, r.stderr} {
			if out != nil {
				out.text()
			}
		}
	})
	r.Process = p
	return r, err
}

// run loads and runs a guest to its end.
func run(t testing.TB, o setup) (r *running, code uint32) {
	t.Helper()
	r = load(t, o)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	r.stdin.Close()
	return r, r.wait(t).Code
}

// begin runs a guest up to its word "ready".
func begin(t testing.TB, o setup) *running {
	t.Helper()
	r := load(t, o)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	r.stdout.await(t, "ready")
	return r
}

func (r *running) wait(t testing.TB) Exit {
	t.Helper()
	select {
	case <-r.Done():
	case <-time.After(60 * time.Second):
		t.Fatal("engine does not end")
	}
	return r.Exit()
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// output collects what comes out of a pipe.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer // guarded by mu
	more chan struct{}
	end  chan struct{}
}

func collect(r *os.File) *output {
	o := &output{more: make(chan struct{}, 1), end: make(chan struct{})}
	go func() {
		defer close(o.end)
		defer r.Close()
		_, _ = io.Copy(o, r)
	}()
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

// text is all that came, when the pipe is at its end.
func (o *output) text() string {
	<-o.end
	return o.sofar()
}

func (o *output) sofar() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(t testing.TB, want string) {
	t.Helper()
	late := time.After(60 * time.Second)
	for !strings.Contains(o.sofar(), want) {
		select {
		case <-o.more:
		case <-late:
			t.Fatalf("no %q in %q", want, o.sofar())
		}
	}
}
