package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HACHI_TEST_STORE"); dir != "" {
		os.Exit(child(dir))
	}
	before := openFiles()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if n := openFiles() - before; n > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d files left open\n", n)
		code = 1
	}
	os.Exit(code)
}

func openFiles() (n int) {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, d := range names {
		if to, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil && !strings.HasPrefix(to, "anon_inode:[event") {
			n++
		}
	}
	return n
}

// fake writes an artefact whose code is the module's content, padded.
func fake(_ context.Context, module, out *os.File) error {
	b, err := io.ReadAll(io.NewSectionReader(module, 0, 1<<30))
	if err != nil {
		return err
	}
	w := layout.NewWriter(out, sha256.Sum256(b))
	if err := w.Add(layout.Code, append(b, make([]byte, 100<<10)...)); err != nil {
		return err
	}
	return w.Finish(0)
}

type counted struct {
	n   atomic.Int32
	log bytes.Buffer
	mu  sync.Mutex
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(p)
}

func (c *counted) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

func open(t *testing.T, dir string, limit int64) (*Store, *counted) {
	t.Helper()
	c := new(counted)
	s, err := Open(Options{Dir: dir, MaxBytes: limit, Log: slog.New(slog.NewTextHandler(c, nil)),
		Compile: func(ctx context.Context, module, out *os.File) error {
			c.n.Add(1)
			return fake(ctx, module, out)
		}})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func module(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

// sum is the digest of a module of that text.
func sum(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

func TestAModuleIsCheckedBeforeItIsCompiled(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir(), Compile: fake})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(context.Background(), sum("one"), module(t, "two")); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v, want ErrDigest", err)
	}
	if l, err := s.List(); err != nil || len(l) != 0 {
		t.Errorf("the store holds %v, %v; want nothing", l, err)
	}
}

// get checks that Get returns the artefact of text.
func get(t *testing.T, s *Store, digest, text string) {
	t.Helper()
	f, err := s.Get(context.Background(), digest, module(t, text))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := holds(f, digest, text); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the artefact can be written to")
	}
}

func holds(f *os.File, digest, text string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := layout.ReadHeader(f, st.Size())
	if err != nil {
		return err
	}
	if digest != "" && h.Key != layout.Key(digest) {
		return errors.New("sealed with another key")
	}
	b, err := h.Read(f, layout.Code)
	if err != nil || !strings.HasPrefix(string(b), text) {
		return fmt.Errorf("code %.20q, %v; want %q", b, err, text)
	}
	return nil
}

func TestCompilesOnceAndKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, c := open(t, dir, 0)
	for range 3 {
		get(t, s, sum("one"), "one")
	}
	other, c2 := open(t, dir, 0)
	get(t, other, sum("one"), "one")
	get(t, other, sum("two"), "two")
	get(t, other, "", "two")
	get(t, other, "", "two")
	if c.n.Load() != 1 || c2.n.Load() != 1 || c.logged()+c2.logged() != "" {
		t.Errorf("compiled %d and %d times, logged %q %q", c.n.Load(), c2.n.Load(), c.logged(), c2.logged())
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
	if st, err = os.Stat(s.Path(sum("one"))); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("artefact %v, %v", st.Mode(), err)
	}
	names, _ := os.ReadDir(dir)
	for _, d := range names {
		if ext := filepath.Ext(d.Name()); ext != extArtifact && ext != extProof {
			t.Errorf("left behind: %s", d.Name())
		}
	}
}

func TestDamagedArtefactsAreReplaced(t *testing.T) {
	garble := func(off int64) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("garbage"), off)
			return err
		}
	}
	for name, damage := range map[string]func(path string) error{
		"empty":         func(p string) error { return os.Truncate(p, 0) },
		"cut in header": func(p string) error { return os.Truncate(p, 100) },
		"cut in code":   func(p string) error { return os.Truncate(p, layout.Align+10) },
		"longer":        func(p string) error { return os.Truncate(p, 1<<20) },
		"magic":         garble(0),
		"header":        garble(200),
		"code":          garble(layout.Align + 5000),
		"other's": func(p string) error {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(p), "other"))
			if err != nil {
				return err
			}
			return os.WriteFile(p, b, 0o600)
		},
		"writable": func(p string) error { return os.Chmod(p, 0o666) },
		"link":     func(p string) error { return errors.Join(os.Rename(p, p+"x"), os.Symlink(p+"x", p)) },
		"pipe":     func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := open(t, t.TempDir(), 0)
			get(t, s, sum("other"), "other")
			if err := os.Rename(s.Path(sum("other")), filepath.Join(s.o.Dir, "other")); err != nil {
				t.Fatal(err)
			}
			get(t, s, sum("one"), "one")
			time.Sleep(10 * time.Millisecond) // ctime has the granularity of the kernel's tick
			if err := damage(s.Path(sum("one"))); err != nil {
				t.Fatal(err)
			}
			get(t, s, sum("one"), "one")
			if c.n.Load() != 3 || !strings.Contains(c.logged(), "will be replaced") {
				t.Errorf("compiled %d times, logged %q", c.n.Load(), c.logged())
			}
			get(t, s, sum("one"), "one")
			if c.n.Load() != 3 {
				t.Error("not kept after replacement")
			}
		})
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	s, c := open(t, t.TempDir(), 600<<10) // three of 192 KiB
	used := func(digest string, ago time.Duration) {
		at := time.Now().Add(-ago)
		e := entry{dir: s.o.Dir, key: layout.Key(sum(digest))}
		for _, ext := range []string{extArtifact, extProof} {
			if err := os.Chtimes(e.file(ext), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, d := range []string{"1", "2", "3"} {
		get(t, s, sum(d), d)
		used(d, time.Duration(10-i)*time.Hour)
	}
	get(t, s, sum("1"), "1") // now the most recent, though the oldest file; its changed ctime costs a check
	held, err := s.Get(context.Background(), sum("2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	used("2", 9*time.Hour)
	get(t, s, sum("4"), "4")
	for d, want := range map[string]bool{"1": true, "2": false, "3": true, "4": true} {
		if _, err := os.Stat(s.Path(sum(d))); (err == nil) != want {
			t.Errorf("artefact %s: kept %v, want %v", d, err == nil, want)
		}
	}
	if err := holds(held, sum("2"), "2"); err != nil {
		t.Errorf("evicted while open: %v", err)
	}
	if l, err := s.List(); err != nil || len(l) != 3 || l[2].Path != s.Path(sum("4")) {
		t.Errorf("list %v, %v", l, err)
	}
	small, c2 := open(t, t.TempDir(), 1000)
	get(t, small, sum("1"), "1")
	if c.n.Load() != 4 || c2.n.Load() != 1 || !strings.Contains(c2.logged(), "exceed the store's bound") {
		t.Errorf("compiled %d, %d; logged %q", c.n.Load(), c2.n.Load(), c2.logged())
	}
}

func TestCrashLeftoversAreSwept(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 0)
	get(t, s, sum("1"), "1")
	gone, busy := entry{dir: dir, key: layout.Key("gone")}, entry{dir: dir, key: layout.Key("busy")}
	for _, p := range []string{gone.file(extTemp), gone.file(extLock), gone.file(extProof), busy.file(extTemp), filepath.Join(dir, "stranger.tmp")} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := busy.tryLock()
	if err != nil || l == nil {
		t.Fatal(err)
	}
	defer l.release()
	s, c := open(t, dir, 0)
	get(t, s, sum("2"), "2") // who compiles cleans up
	var left []string
	names, _ := os.ReadDir(dir)
	for _, d := range names {
		left = append(left, d.Name())
	}
	if len(left) != 7 { // two artefacts and proofs, busy's temp and lock, the stranger
		t.Errorf("left: %q", left)
	}
	get(t, s, sum("1"), "1")
	if c.n.Load() != 1 {
		t.Error("the good artefact was swept")
	}
}

func TestUnusableDirectoriesDegrade(t *testing.T) {
	full := t.TempDir()
	if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs root to mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(full, unix.MNT_DETACH) })
	readOnly := t.TempDir()
	if err := errors.Join(unix.Mount("tmpfs", readOnly, "tmpfs", 0, "mode=0700"), unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(readOnly, unix.MNT_DETACH) })
	if err := unix.Mount("", full, "", unix.MS_REMOUNT, "size=64k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	open777, foreign, file := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.Chmod(open777, 0o777), os.Chown(foreign, 12345, 12345), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"full": full, "read-only": readOnly, "world-writable": open777, "foreign": foreign,
		"a file": file, "below a file": filepath.Join(file, "x"), "in proc": "/proc/hachi"} {
		t.Run(name, func(t *testing.T) {
			s, c := open(t, dir, 0)
			get(t, s, sum("one"), "one")
			get(t, s, sum("one"), "one")
			if c.n.Load() != 2 || !strings.Contains(c.logged(), "level=WARN") {
				t.Errorf("compiled %d times, logged %q", c.n.Load(), c.logged())
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCompileErrorsArePassedOnAndLeaveNothing(t *testing.T) {
	bad := errors.New("bad module")
	dir := t.TempDir()
	for name, compile := range map[string]func(context.Context, *os.File, *os.File) error{
		"error":   func(context.Context, *os.File, *os.File) error { return bad },
		"nothing": func(context.Context, *os.File, *os.File) error { return nil },
		"garbage": func(_ context.Context, _, out *os.File) error {
			_, err := out.Write(bytes.Repeat([]byte("x"), 1<<16))
			return err
		},
	} {
		s, err := Open(Options{Dir: dir, Compile: compile, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Get(context.Background(), sum("x"), module(t, "x"))
		if f != nil || err == nil || (name == "error") != errors.Is(err, bad) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Error("opened without Compile")
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	l, err := entry{dir: s.o.Dir, key: layout.Key(sum("x"))}.tryLock()
	if err != nil || l == nil {
		t.Fatal(err)
	}
	defer l.release()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, sum("x"), module(t, "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// Eight processes with four goroutines each ask for the same three modules at once.
func TestSingleFlightAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	var all []*exec.Cmd
	for range 8 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "HACHI_TEST_STORE="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	for i := range 3 {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("compiled", i)))
		if err != nil || len(b) != 1 {
			t.Errorf("module %d compiled %d times, %v", i, len(b), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.[lt]*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func child(dir string) int {
	s, err := Open(Options{Dir: dir, Compile: func(ctx context.Context, module, out *os.File) error {
		name, _ := io.ReadAll(io.NewSectionReader(module, 0, 100))
		f, err := os.OpenFile(filepath.Join(dir, "compiled"+string(name)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		return fake(ctx, module, out)
	}})
	if err != nil {
		return 1
	}
	var wg sync.WaitGroup
	var failed atomic.Bool
	for i := range 12 {
		wg.Go(func() {
			text := fmt.Sprint(i % 3)
			m, err := os.CreateTemp("", "m")
			if err == nil {
				defer m.Close()
				defer os.Remove(m.Name())
				_, err = m.WriteString(text)
			}
			var f *os.File
			if err == nil {
				f, err = s.Get(context.Background(), sum(text), m)
			}
			if err == nil {
				defer f.Close()
				err = holds(f, sum(text), text)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		return 1
	}
	return 0
}

func BenchmarkHit(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir(), Compile: fake})
	if err != nil {
		b.Fatal(err)
	}
	m, err := os.Create(filepath.Join(b.TempDir(), "m"))
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for b.Loop() {
		f, err := s.Get(context.Background(), sum(""), m)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
