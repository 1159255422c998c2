package hostile

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv"
)

// secret is what no guest may see.
const secret = "the host's own secret"

// outside makes a directory next to volumes whose content guests go for.
func outside(t *testing.T, parent string) string {
	t.Helper()
	dir := filepath.Join(parent, "outside")
	for _, d := range []string{dir, filepath.Join(dir, "victim.d")} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"secret": secret, "victim": "precious", "outside-marker": "", "sized": strings.Repeat("x", 4242)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fingerprint is all that a guest could change about a tree.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		content := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(b)
		}
		all[path] = fmt.Sprintf("%v %d links, modified %v, %q", info.Mode(), st.Nlink, info.ModTime(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEscape gives a guest a volume full of ways out, made by the host or by itself, and tries every path call on
// each of them.
func TestEscape(t *testing.T) {
	n := newNeighbour(t)
	parent := t.TempDir()
	out := outside(t, parent)
	inside := filepath.Join(parent, "volume")
	for _, d := range []string{"", "deep/er/est", "moved"} {
		if err := os.MkdirAll(filepath.Join(inside, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"own", "spare"} {
		if err := os.WriteFile(filepath.Join(inside, f), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	paths := []string{
		"..", "../outside", "../outside/secret", "deep/../../outside/secret", "deep/er/est/../../../../outside/secret", "./..//.././outside/secret",
		out + "/secret", "/../outside/secret", "//" + out, "own/../../outside/secret", "..\\outside\\secret", "deep/er/est/../../../..",
		"/proc/self/root" + out + "/secret", "/etc/passwd", "../outside/sized", "deep/./../../outside/../outside/victim",
	}
	for name, target := range map[string]string{
		"absolute": out + "/secret", "absolute-dir": out, "relative": "../outside/secret", "relative-dir": "../outside", "up": "..",
		"up-up": "../..", "root": "/", "self": "/proc/self/root", "cwd": "/proc/self/cwd", "fd": "/proc/self/fd/4", "fd-dir": "/proc/self/fd",
		"environment": "/proc/self/environ", "mem": "/proc/self/mem", "dangling": "../outside/planted-by-link", "dangling-absolute": out + "/planted-by-link",
		"deep/chain": "../up/outside/secret", "chain": "deep/chain", "loop": "loop", "trailing": "../outside/", "deep/er/sideways": "../../relative-dir/secret",
	} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name, name+"/", name+"/secret", name+"/.", name+"/../outside/secret", name+out+"/secret")
	}
	before := fingerprint(t, out)
	for name, flags := range map[string][]string{
		"read-write": {"-v", inside + ":/v"},
		"read-only":  {"-v", inside + ":/v:ro"},
		// The guest may reach only the second by the first's way out if it was given it, which it was not.
		"two volumes": {"-v", inside + ":/v", "-v", inside + "/moved:/w"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guestRun{flags: flags, file: program(t, "escape"), args: append([]string{"/v", secret}, paths...), code: 0, says: []string{"tried"}}
			g.check(t, n)
			if diff := cmp.Diff(before, fingerprint(t, out)); diff != "" {
				t.Errorf("changed outside of the volume:\n%s", diff)
			}
		})
	}
	if _, err := os.Lstat(filepath.Join(parent, "planted")); err == nil {
		t.Error("something was planted in the volume's parent")
	}
	// The sample that readers may try has to say so too.
	t.Run("sample", func(t *testing.T) {
		g := guestRun{flags: []string{"-v", inside + ":/v"}, file: filepath.Join(testenv.Samples(t), "symlink.wasm"), args: []string{"/v", out + "/secret"}, code: 0}
		g.check(t, n)
	})
}

// TestEscapeNotices: the guest does say so when it gets at the secret.
func TestEscapeNotices(t *testing.T) {
	parent := t.TempDir()
	outside(t, parent)
	for _, path := range []string{"outside/secret", "outside", "outside/sized"} {
		g := guestRun{flags: []string{"-v", parent + ":/v"}, file: program(t, "escape"), args: []string{"/v", secret, path}}
		if o := g.run(t); o.code != 9 || !strings.Contains(o.stdout, "escaped: ") {
			t.Errorf("%s: exit code %d, %s%s", path, o.code, o.stdout, o.stderr)
		}
	}
}

// TestSpecialFiles: devices, fifos and sockets in a volume.
func TestSpecialFiles(t *testing.T) {
	testenv.NeedRoot(t) // mknod
	n := newNeighbour(t)
	dir := testenv.ShortDir(t)
	node := func(name string, mode uint32, major, minor int) {
		t.Helper()
		if err := syscall.Mknod(filepath.Join(dir, name), mode|0o666, major<<8|minor); err != nil {
			t.Fatal(err)
		}
	}
	node("mem", syscall.S_IFCHR, 1, 1)
	node("port", syscall.S_IFCHR, 1, 4)
	node("kmsg", syscall.S_IFCHR, 1, 11)
	node("tty", syscall.S_IFCHR, 5, 0)
	node("console", syscall.S_IFCHR, 5, 1)
	node("ptmx", syscall.S_IFCHR, 5, 2)
	node("fuse", syscall.S_IFCHR, 10, 229)
	node("disk", syscall.S_IFBLK, 8, 0)
	node("loop", syscall.S_IFBLK, 7, 0)
	node("null", syscall.S_IFCHR, 1, 3)
	node("zero", syscall.S_IFCHR, 1, 5)
	node("fifo", syscall.S_IFIFO, 0, 0)
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, refused := range []string{"mem", "port", "kmsg", "tty", "console", "ptmx", "fuse", "disk", "loop", "socket"} {
		t.Run(refused, func(t *testing.T) { special(t, dir, refused, "no").check(t, n) })
	}
	for _, allowed := range []string{"null", "zero"} {
		t.Run(allowed, func(t *testing.T) { special(t, dir, allowed, "yes").check(t, n) })
	}
	// A fifo that nobody else has open is no way to hang for good: open returns, or the timeout ends it.
	t.Run("fifo", func(t *testing.T) {
		g := special(t, dir, "fifo", "yes")
		o := g.run(t)
		if o.code != 0 && o.code != 124 || o.took > 2*bound {
			t.Errorf("exit code %d after %v: %s%s", o.code, o.took, o.stdout, o.stderr)
		}
	})
	// Somebody may give a guest /proc. What is in it of the engine itself stays closed.
	for _, name := range []string{"self/mem", "self/environ", "self/root/etc/passwd", "self/exe", "self/fd/3", "self/maps", "1/environ", "1/root", "kcore", "sysrq-trigger", "sys/kernel/core_pattern"} {
		if _, err := os.Lstat("/proc/" + name); err == nil {
			t.Run("proc/"+name, func(t *testing.T) { special(t, "/proc", name, "no").check(t, n) })
		}
	}
}

func special(t *testing.T, dir, name, verdict string) guestRun {
	return guestRun{flags: []string{"-v", dir + ":/v", "--timeout", "2s"}, file: program(t, "exhaust"), args: []string{"special", "/v/" + name, verdict}}
}
