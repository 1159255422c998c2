package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// overlay mounts layers (top first, the first one writable) in a mount namespace of the calling
// thread alone, which dies with the goroutine.
func overlay(t *testing.T, options ...string) (mount specs.Mount, merged string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: overlay mounts and trusted.* attributes")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	dir := func(name string) string {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// tmpfs carries trusted.* attributes and overlay upper directories on every kernel tested.
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	lower := []string{dir("l0"), dir("l1"), dir("l2")}
	merged = dir("merged")
	options = append(options, "lowerdir="+strings.Join(lower, ":"), "upperdir="+dir("upper"), "workdir="+dir("work"))
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	return specs.Mount{Type: "overlay", Source: "overlay", Options: options}, merged
}

func mountOverlay(t *testing.T, m specs.Mount, at string) {
	t.Helper()
	if err := unix.Mount("overlay", at, "overlay", 0, strings.Join(m.Options, ",")); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
}

// tree makes random files, links and directories, with collisions between layers on purpose.
func tree(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	names := []string{"a", "b", "c", "d"}
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range names {
			path := filepath.Join(dir, name)
			var err error
			switch r.IntN(8) {
			case 0, 1:
				err = os.WriteFile(path, fmt.Appendf(nil, "%s %d", path, r.Int()), 0o644)
			case 2, 3, 4:
				if depth > 0 {
					if err = os.Mkdir(path, 0o755); err == nil {
						fill(path, depth-1)
					}
				}
			case 5:
				targets := []string{"/a", "b", "../c", "/b/../c/d", "../../../../d/a", "./a/b/", "/a/b/c", "d", "/"}
				err = os.Symlink(targets[r.IntN(len(targets))], path)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(dir, 3)
}

// change edits the merged tree as a build step does: it makes whiteouts, opaque directories, copied-up
// files and, where the mount allows, redirects and metadata-only copies.
func change(t *testing.T, r *rand.Rand, merged string) {
	t.Helper()
	var all []string
	filepath.Walk(merged, func(path string, _ os.FileInfo, err error) error {
		if err == nil && path != merged {
			all = append(all, path)
		}
		return nil
	})
	sort.Strings(all)
	for range 12 {
		if len(all) == 0 {
			return
		}
		path := all[r.IntN(len(all))]
		switch r.IntN(5) {
		case 0:
			os.RemoveAll(path)
		case 1: // removed and made again: an opaque directory
			os.RemoveAll(path)
			os.Mkdir(path, 0o755)
			os.WriteFile(filepath.Join(path, "a"), []byte("new"), 0o644)
		case 2:
			os.Rename(path, filepath.Join(filepath.Dir(path), "moved"))
		case 3:
			os.Rename(path, filepath.Join(merged, "moved-up"))
		case 4:
			os.Chmod(path, 0o700)
		}
	}
}

func TestLookupEqualsTheKernel(t *testing.T) {
	for name, options := range map[string][]string{
		"plain":    {"redirect_dir=off,metacopy=off"},
		"redirect": {"redirect_dir=on,metacopy=off"},
		"metacopy": {"redirect_dir=on,metacopy=on"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					m, merged := overlay(t, options...)
					compare(t, rand.New(rand.NewPCG(seed, 7)), m, merged)
				})
			}
		})
	}
}

func compare(t *testing.T, r *rand.Rand, m specs.Mount, merged string) {
	fs := fromOverlay(m)
	for _, dir := range fs.layers[1:] {
		tree(t, r, dir)
	}
	// What the first round leaves in its upper directory is a lower layer of the second.
	mountOverlay(t, m, merged)
	change(t, r, merged)
	if err := unix.Unmount(merged, 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"upper2", "work2"} {
		if err := os.Mkdir(filepath.Join(filepath.Dir(merged), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.Options = []string{
		m.Options[0], "lowerdir=" + strings.Join(fs.layers, ":"),
		"upperdir=" + filepath.Join(filepath.Dir(merged), "upper2"), "workdir=" + filepath.Join(filepath.Dir(merged), "work2"),
	}
	fs = fromOverlay(m)
	mountOverlay(t, m, merged)
	change(t, r, merged)

	root, err := unix.Open(merged, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	parts := []string{"a", "b", "c", "d", "moved", "moved-up", "..", "."}
	checked := 0
	for range 800 {
		var path string
		for range 1 + r.IntN(5) {
			path += "/" + parts[r.IntN(len(parts))]
		}
		want := kernel(t, root, path)
		got := ours(t, fs, path)
		if got != want {
			t.Errorf("%s: got %s, kernel says %s", path, got, want)
			if checked++; checked > 5 {
				t.FailNow()
			}
		}
	}
}

// kernel opens path in the real mount and describes what is there.
func kernel(t *testing.T, root int, path string) string {
	t.Helper()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, path, &how)
	for errors.Is(err, unix.EAGAIN) { // a mount or a rename, anywhere on this machine, came between
		fd, err = unix.Openat2(root, path, &how)
	}
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Sprintf("type %o", stat.Mode&unix.S_IFMT)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("file %x", sha256.Sum256(data))
}

func ours(t *testing.T, fs *rootfs, path string) string {
	t.Helper()
	at, err := fs.lookup(path)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if at.mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Sprintf("type %o", at.mode&unix.S_IFMT)
	}
	f, err := openRegular(fs.layers[at.layer], at.path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("file %x", sha256.Sum256(data))
}
