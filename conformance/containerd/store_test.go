package containerd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

// storeWorld is a world whose shims each see, as /var/lib/hachi, what the shell commands in prepare mount there. The
// launcher is replaced by a script that makes a mount namespace and then becomes the launcher.
func storeWorld(t *testing.T, version, prepare string) *world {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	if err := os.MkdirAll("/var/lib/hachi", 0o700); err != nil {
		t.Fatal(err)
	}
	dir := testenv.ShortDir(t)
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation slave sh -c '%s >&2 && exec \"$0\" \"$@\"' %s \"$@\"\n",
		prepare, filepath.Join(testenv.Bin(t), "containerd-shim-hachi-v1"))
	if err := os.WriteFile(filepath.Join(dir, "containerd-shim-hachi-v1"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	d := daemon.Test(t, version, daemon.Options{Path: []string{dir}})
	c, err := client.New(d.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &world{kind: kinds[len(kinds)-1], d: d, c: c, version: version, dir: filepath.Dir(d.Address)}
	w.ctx = namespaces.WithNamespace(context.Background(), d.Mark())
	w.importWasm(t, w.image, buildC(t, "samples/hello-c/hello.c"))
	return w
}

// hello runs the C guest, which must do its work, and returns what containerd's log got meanwhile.
func (w *world) hello(t *testing.T) string {
	t.Helper()
	before, err := os.ReadFile(w.d.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	code, c := w.run(t)
	if code != 0 || !strings.Contains(c.stdout.String(), "hello from C") {
		t.Errorf("code %d, stdout %q, stderr %q", code, c.stdout.String(), c.stderr.String())
	}
	c.remove(t)
	log, err := os.ReadFile(w.d.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	return string(log[len(before):])
}

func wasmVersions(t *testing.T, f func(t *testing.T, version string)) {
	if !strings.Contains(*kindsFlag, "wasm") {
		t.Skip("-kinds has no wasm")
	}
	for _, version := range strings.Split(*versionsFlag, ",") {
		t.Run(version, func(t *testing.T) { f(t, version) })
	}
}

// TestStoreThatIsNone runs guests where compiled code cannot be kept: they run all the same, and the log says what the
// operator must know.
func TestStoreThatIsNone(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs a C compiler for the guest: run make deps")
	}
	const at = " /var/lib/hachi"
	wasmVersions(t, func(t *testing.T, version string) {
		for _, c := range []struct{ name, prepare, says string }{
			{"full disk", "mount -t tmpfs -o size=4k tmpfs" + at, "no space left on device"},
			{"no inodes left", "mount -t tmpfs -o nr_inodes=2 tmpfs" + at, "no space left on device"},
			{"read-only", "mount -t tmpfs -o ro tmpfs" + at, "read-only file system"},
			{"somebody else can write", "mount -t tmpfs tmpfs" + at + " && mkdir -m 777" + at + "/artifacts", "chmod 0700"},
			{"somebody else owns it", "mount -t tmpfs tmpfs" + at + " && mkdir" + at + "/artifacts && chown 1:1" + at + "/artifacts", "chown it to 0"},
			{"a file in its place", "mount -t tmpfs tmpfs" + at + " && touch" + at + "/artifacts", "not a directory"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := storeWorld(t, version, c.prepare)
				w.clean(t)
				if log := w.hello(t); !strings.Contains(log, c.says) || !strings.Contains(log, "level=WARN") {
					t.Errorf("the log has no warning that says %q:\n%s", c.says, grep(log, "artefact"))
				}
			})
		}
	})
}

// grep returns the lines of text with word in them.
func grep(text, word string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// TestStoreThatIsDamaged spoils the stored code of a guest in every way. It is noticed, made again, and never run.
func TestStoreThatIsDamaged(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs a C compiler for the guest: run make deps")
	}
	wasmVersions(t, func(t *testing.T, version string) {
		dir := testenv.ShortDir(t)
		w := storeWorld(t, version, "mount --bind "+dir+" /var/lib/hachi")
		w.hello(t)
		stored, err := filepath.Glob(filepath.Join(dir, "artifacts", "*.hc"))
		if err != nil || len(stored) != 1 {
			t.Fatalf("want one artefact, got %q, %v", stored, err)
		}
		file := stored[0]
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if log := w.hello(t); strings.Contains(log, "artefact") {
			t.Errorf("a second start has something to say: %s", grep(log, "artefact"))
		}
		for _, c := range []struct {
			name   string
			damage func() error
		}{
			{"flipped bit in the middle", func() error { return flip(file) }},
			{"flipped bit in the header", func() error { return os.WriteFile(file, append([]byte{good[0] ^ 1}, good[1:]...), 0o600) }},
			{"truncated", func() error { return os.Truncate(file, int64(len(good)/2)) }},
			{"one byte short", func() error { return os.Truncate(file, int64(len(good)-1)) }},
			{"empty", func() error { return os.Truncate(file, 0) }},
			{"grown", func() error { return os.WriteFile(file, append(bytes.Clone(good), 0), 0o600) }},
			{"text", func() error { return os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600) }},
			{"a link", func() error { return relink(file, "/etc/hostname") }},
			{"others may write", func() error { return os.Chmod(file, 0o666) }},
			{"another's", func() error { return os.Chown(file, 1, 1) }},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				if err := c.damage(); err != nil {
					t.Fatal(err)
				}
				if log := w.hello(t); !strings.Contains(log, "artefact is unusable and will be replaced") {
					t.Errorf("nothing in the log:\n%s", grep(log, "artefact"))
				}
				if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
					t.Errorf("it was not made again: %d bytes for %d, %v", len(now), len(good), err)
				}
				if log := w.hello(t); strings.Contains(log, "artefact") {
					t.Errorf("the new one is not used: %s", grep(log, "artefact"))
				}
			})
		}
	})
}

func relink(name, to string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return os.Symlink(to, name)
}
