package artifact

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
)

func TestGuestRunsFromItsArtifact(t *testing.T) {
	module := open(t, guest(t, "hello"))
	plain, code, err := run(t, LoadOptions{Module: module}, "a", "b")
	if err != nil || code != 0 || !strings.HasPrefix(plain, "hello guest,a,b 37 key11 [") {
		t.Fatalf("compiled in place: %q, %d, %v", plain, code, err)
	}
	art := compiled(t, module)
	for name, o := range map[string]LoadOptions{
		"data in segments":          {},
		"data mapped":               {Memory: memory.New(0)},
		"data mapped, ticking fast": {Memory: memory.New(0), Preempt: preempt.Options{Period: 100 * time.Microsecond}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Module, o.Artifact, o.Log = module, art, noWarnings(t)
			got, code, err := run(t, o, "a", "b")
			if err != nil || code != 0 || got != plain {
				t.Errorf("%q, %d, %v; want %q", got, code, err, plain)
			}
			if _, code, err := run(t, o, "exit"); code != 3 || err != nil {
				t.Errorf("exit code %d, %v; want 3", code, err)
			}
			if out, code, err := run(t, o, "panic"); code != 2 || err != nil || !strings.Contains(out, "nil pointer") {
				t.Errorf("a Go panic: %q, %d, %v", out, code, err)
			}
		})
	}
}

func TestSpinningGoProgramIsKilled(t *testing.T) {
	module := open(t, guest(t, "hello"))
	for name, art := range map[string]*os.File{"artefact": compiled(t, module), "in place": nil} {
		start := time.Now()
		o := LoadOptions{Module: module, Artifact: art, Memory: memory.New(0), Log: noWarnings(t)}
		var began time.Time
		o.Preempt.Yield = func(context.Context, api.Module) {
			if began.IsZero() {
				began = time.Now()
			}
			if time.Since(began) > 200*time.Millisecond {
				panic(sys.NewExitError(137))
			}
		}
		if _, code, err := run(t, o, "spin"); code != 137 || err != nil {
			t.Errorf("%s: %d, %v", name, code, err)
		}
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("%s: ended %v after it was to", name, took-200*time.Millisecond)
		}
		t.Logf("%s: %v in all", name, time.Since(start))
	}
}

func TestUnusableArtefactsAreCompiledInPlace(t *testing.T) {
	module := open(t, guest(t, "hello"))
	good, err := os.ReadFile(compiled(t, module).Name())
	if err != nil {
		t.Fatal(err)
	}
	h, err := layout.ReadHeader(file(t, good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	garble := func(off int64) []byte {
		b := append([]byte(nil), good...)
		b[off] ^= 0x10
		return b
	}
	for name, b := range map[string][]byte{
		"empty":   {},
		"garbage": []byte(strings.Repeat("garbage ", 10_000)),
		"cut":     good[:len(good)/2],
		"header":  garble(100),
		"foreign": garble(16),
		"version": garble(8),
		"stub":    garble(h.Span(layout.Stub).Off + 100),
		"head":    garble(h.Span(layout.Head).Off + 3),
		"tail":    garble(h.Span(layout.Tail).Off),
		"runs":    garble(h.Span(layout.Runs).Off),
	} {
		t.Run(name, func(t *testing.T) {
			log := new(recorded)
			ctx := context.Background()
			rt, cm, err := Load(ctx, LoadOptions{Module: open(t, tiny(t)), Artifact: file(t, b), Log: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close(ctx)
			if cm.ExportedFunctions()["add"] == nil || !strings.Contains(log.String(), "compiling in place") {
				t.Errorf("exports %v, logged %q", cm.ExportedFunctions(), log)
			}
			if _, _, err := Load(ctx, LoadOptions{Artifact: file(t, b), Log: log.logger()}); err == nil || errors.Is(err, ErrBadModule) {
				t.Errorf("without a module: %v", err)
			}
		})
	}
}

// tiny returns the path of a module that compiles at once.
func tiny(tb testing.TB) string { return file(tb, addModule).Name() }

// On a file system that forbids execution code is copied instead of mapped.
func TestNoexecFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
		t.Skipf("needs root to mount: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	module := open(t, guest(t, "hello"))
	b, err := os.ReadFile(compiled(t, module).Name())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "artifact")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	art, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer art.Close()
	out, code, err := run(t, LoadOptions{Module: module, Artifact: art, Memory: memory.New(0), Log: noWarnings(t)})
	if err != nil || code != 0 || !strings.HasPrefix(out, "hello guest 37") {
		t.Errorf("%q, %d, %v", out, code, err)
	}
}

func TestStoreAndLoadTogether(t *testing.T) {
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "store"), Compile: Compile, Log: noWarnings(t)})
	if err != nil {
		t.Fatal(err)
	}
	module := open(t, guest(t, "hello"))
	for range 2 {
		art, err := s.Get(context.Background(), "", module)
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := run(t, LoadOptions{Module: module, Artifact: art, Memory: memory.New(0), Log: noWarnings(t)})
		if art.Close(); err != nil || !strings.HasPrefix(out, "hello guest 37") {
			t.Errorf("%q, %v", out, err)
		}
	}
	if _, err := s.Get(context.Background(), "", file(t, []byte("junk"))); !errors.Is(err, ErrBadModule) {
		t.Errorf("junk: %v", err)
	}
}

func FuzzLoadArtifact(f *testing.F) {
	b := new(buffer)
	if err := compile(context.Background(), addModule, b); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(100), byte(1))
	f.Add(uint32(4096), byte(0xff))
	f.Add(uint32(40), byte(2))
	// Bytes that no checksum covers do not exist, so a changed artefact loads as the original or not at all. Only the
	// code's own bytes are not looked at by Load: the store has.
	f.Fuzz(func(t *testing.T, at uint32, change byte) {
		mutated := append([]byte(nil), b.b...)
		mutated[int(at)%len(mutated)] ^= change
		ctx := context.Background()
		o := LoadOptions{Artifact: file(t, mutated), Log: (new(recorded)).logger()}
		if rt, _, err := Load(ctx, o); err == nil {
			rt.Close(ctx)
		}
	})
}
