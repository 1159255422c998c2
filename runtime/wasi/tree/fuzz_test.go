package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzResolve: the walk finds exactly what openat2 finds, and neither leads out.
func FuzzResolve(f *testing.F) {
	base := f.TempDir()
	inside := filepath.Join(base, "in")
	for _, dir := range []string{inside + "/a/b", base + "/out"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			f.Fatal(err)
		}
	}
	for _, name := range []string{inside + "/f", inside + "/a/f", base + "/out/f"} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			f.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"u": "..", "r": "/", "o": "../out", "a/u": "..", "a/b/u": "../..", "a/b/r": "/a", "a/l": "l", "d": "a/", "n": "nothing",
		"a/d": "./../a/b/.", "p": base + "/out/f", "s": "f/",
	} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			f.Fatal(err)
		}
	}
	for _, seed := range []string{"f", "a/b/../f", "u", "r/f", "a/u/f", "a/b/u/u", "d/b/r/f", "a/l", "o/f", "p", "s", "a/d/u", "./f/.", "a//b///", "..", "n/x", "a/b/r/../../f"} {
		f.Add(seed, true, true)
		f.Add(seed, false, false)
	}
	f.Fuzz(func(t *testing.T, path string, follow, root bool) {
		d := top(t, inside, Options{Root: root})
		look := func(walk bool) string {
			noOpenat2.Store(walk)
			defer noOpenat2.Store(false)
			flags := unix.O_PATH
			if !follow {
				flags |= unix.O_NOFOLLOW
			}
			fd, err := d.resolve(path, flags, 0)
			if err != nil {
				return fmt.Sprint("error ", err)
			}
			defer unix.Close(fd)
			where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			if err != nil {
				t.Fatal(err)
			}
			if !within(where, inside) {
				t.Errorf("%q led to %s", path, where)
			}
			return where
		}
		if kernel, walk := look(false), look(true); kernel != walk {
			t.Errorf("%q follow %v root %v: openat2 says %s, the walk %s", path, follow, root, kernel, walk)
		}
	})
}
