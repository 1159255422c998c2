package hostile

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

// pairSeconds is how long two guests race.
const pairSeconds = "3"

// running is a guest under package engine.
type running struct {
	*engine.Process
	output func() string // waits for the end of stdout
}

// begin starts a guest that was compiled by a worker of its own.
func begin(t *testing.T, file, volume string, args ...string) *running {
	t.Helper()
	binary := filepath.Join(testenv.Bin(t), "hachi-engine")
	module, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	artifact, err := os.CreateTemp(t.TempDir(), "artifact")
	if err != nil {
		t.Fatal(err)
	}
	defer artifact.Close()
	if err := engine.Compiler(binary, nil)(context.Background(), module, artifact); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	g := engine.Guest{Name: filepath.Base(file), Files: wire.Files{Module: module, Artifact: artifact}, Config: wire.Config{Args: append([]string{file}, args...)}}
	if volume != "" {
		g.Config.Preopens = []wire.Preopen{{Guest: "/v", Path: volume}}
		g.Config.Jail.Paths = []jail.Path{{Path: volume}}
	}
	p, err := engine.Start(engine.Options{Binary: binary, Stdout: w, Stderr: w})
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	text := make(chan string, 1)
	go func() {
		defer r.Close()
		b, _ := io.ReadAll(io.LimitReader(r, 64<<10))
		text <- string(b)
	}()
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
	})
	if err = p.Load(context.Background(), g); err == nil {
		err = p.Run()
	}
	if err != nil {
		t.Fatalf("%v: %s", err, <-text)
	}
	return &running{Process: p, output: func() string { return <-text }}
}

// end waits for the guest's end, no longer than within.
func (r *running) end(t *testing.T, within time.Duration) engine.Exit {
	t.Helper()
	select {
	case <-r.Done():
	case <-time.After(within):
		t.Fatalf("still there after %v", within)
	}
	return r.Exit()
}

// TestRace: one guest swaps a directory for a link that leads out, and moves another up and down, while a second one uses
// names below them. Neither may ever get out.
func TestRace(t *testing.T) {
	n := newNeighbour(t)
	parent := t.TempDir()
	out := outside(t, parent)
	volume := filepath.Join(parent, "volume")
	for _, d := range []string{"x", "deep/er/est"} {
		if err := os.MkdirAll(filepath.Join(volume, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"own": "", "x/secret": "harmless", "x/victim": "ours"} {
		if err := os.WriteFile(filepath.Join(volume, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	before := fingerprint(t, out)
	watch := n.watch()
	swap := begin(t, program(t, "race"), volume, "swap", "/v", out, pairSeconds)
	use := begin(t, program(t, "race"), volume, "use", "/v", secret, pairSeconds)
	for name, r := range map[string]*running{"swap": swap, "use": use} {
		x := r.end(t, 2*bound)
		said := r.output()
		t.Logf("%s: %s", name, said)
		if x.Code != 0 {
			t.Errorf("%s: exit code %d: %s", name, x.Code, said)
		}
		if name == "use" && strings.Contains(said, " 0 opened") {
			t.Error("nothing was ever opened: that was no race")
		}
	}
	if slowest, err := watch(); err != nil || slowest > patience {
		t.Errorf("neighbour: %v, %v", slowest, err)
	}
	if diff := cmp.Diff(before, fingerprint(t, out)); diff != "" {
		t.Errorf("changed outside of the volume:\n%s", diff)
	}
}

// TestKill: whatever a guest is at, SIGKILL ends it at once and a stop within its grace, and another guest in the
// same hands goes on.
func TestKill(t *testing.T) {
	n := newNeighbour(t)
	const grace = 100 * time.Millisecond
	for name, m := range map[string]*module{
		"spin":               main(opLoop, opBr0, opEnd),
		"spin in the start":  started(opLoop, opBr0, opEnd),
		"spin in tail calls": main(tailCall(0)),
		"spin filling a gigabyte": main(i32(16383), opMemoryGrow, opDrop,
			opLoop, i32(0), i32(7), i32(1<<30), opMemoryFill, opBr0, opEnd),
		"spin asking the host": askForever(1, 8),
		"ask for gigabytes":    askForever(16384, 1<<30),
		"wait for ever":        waitForever(),
	} {
		t.Run(name, func(t *testing.T) {
			file := moduleFile(t, m.bytes())
			watch := n.watch()
			other := begin(t, moduleFile(t, main(opLoop, opBr0, opEnd).bytes()), "")

			r := begin(t, file, "")
			time.Sleep(50 * time.Millisecond)
			began := time.Now()
			r.Kill()
			x := r.end(t, bound)
			killed := time.Since(began)

			r = begin(t, file, "")
			time.Sleep(50 * time.Millisecond)
			began = time.Now()
			if err := r.Stop(syscall.SIGTERM, grace); err != nil {
				t.Error(err)
			}
			y := r.end(t, bound)
			stopped := time.Since(began)

			select {
			case <-other.Done():
				t.Errorf("the other guest ended: %+v", other.Exit())
			default:
			}
			slowest, err := watch()
			t.Logf("killed after %v, stopped after %v, neighbour's slowest answer %v", killed, stopped, slowest)
			// The bar is 20 ms; a machine with other work may take its time to reap gigabytes.
			if x.Code != 137 || killed > 500*time.Millisecond {
				t.Errorf("SIGKILL: %+v after %v, want 137 at once", x, killed)
			}
			if y.Code != 143 || stopped > grace+1500*time.Millisecond {
				t.Errorf("SIGTERM: %+v after %v, want 143 within %v", y, stopped, grace)
			}
			if err != nil || slowest > patience {
				t.Errorf("neighbour: %v, %v", slowest, err)
			}
		})
	}
}

// askForever asks for that many random bytes again and again and does nothing else.
func askForever(pages uint32, n int32) *module {
	m := (&module{}).pages(pages, pages)
	random := m.wasi("random_get", dyadic)
	m.export("_start", m.function(nothing, "", opLoop, i32(0), i32(n), call(random), opDrop, opBr0, opEnd))
	return m
}

// waitForever waits for a clock that is due in 292 years.
func waitForever() *module {
	m := (&module{}).pages(1, 1)
	poll := m.wasi("poll_oneoff", quaternary)
	// subscription at 0: clock (tag 0 at 8), id 1 at 16, timeout 1<<63-1 at 24.
	m.data = []string{"\x00" + i32(16) + opEnd + name("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f")}
	m.export("_start", m.function(nothing, "", i32(0), i32(1024), i32(1), i32(2048), call(poll), opDrop))
	return m
}
