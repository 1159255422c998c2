package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// resolvers runs a test once with openat2 and once with the walk that replaces it.
func resolvers(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, walk := range []bool{false, true} {
		name := "openat2"
		if walk {
			name = "walk"
		}
		t.Run(name, func(t *testing.T) {
			noOpenat2.Store(walk)
			defer noOpenat2.Store(false)
			f(t)
			if got := noOpenat2.Load(); got != walk {
				t.Errorf("openat2 taken for missing: %v", got)
			}
		})
	}
}

func top(t *testing.T, path string, o Options) *Dir {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	d, err := tr.Top()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = d.Close(), tr.Close() })
	return d
}

// layout makes an inside and an outside, and in the inside all sorts of ways to the outside.
func layout(t *testing.T) (inside, outside string) {
	t.Helper()
	base := t.TempDir()
	inside, outside = filepath.Join(base, "in"), filepath.Join(base, "out")
	for _, dir := range []string{inside, outside, inside + "/a/b", inside + "/out"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		outside + "/secret": "secret", inside + "/file": "inside", inside + "/a/b/deep": "deep", inside + "/out/secret": "decoy",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"relative":   "../out/secret",
		"absolute":   outside + "/secret",
		"dir":        "../out",
		"absdir":     outside,
		"dangling":   "../out/new",
		"chain":      "relative",
		"climb":      "a/b/../../../out/secret",
		"loop":       "loop",
		"rooted":     "/file",
		"rooteddir":  "/a",
		"a/up":       "../file",
		"a/b/rooted": "/file",
		"a/b/out":    "../../../out/secret",
		"fine":       "a/b/deep",
		"proc":       "/proc/self/root/etc/passwd",
	} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	return inside, outside
}

func readAll(t *testing.T, n *Node) string {
	t.Helper()
	defer unix.Close(n.FD)
	b := make([]byte, 100)
	m, err := unix.Read(n.FD, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:m])
}

// TestEscapes: no path and no link reads anything of the outside.
func TestEscapes(t *testing.T) {
	inside, outside := layout(t)
	paths := []string{
		"relative", "absolute", "dir/secret", "absdir/secret", "dangling", "chain", "climb", "loop", "proc",
		"../out/secret", "..", "a/../../out/secret", "a/b/../../../out/secret", "/" + outside + "/secret", outside + "/secret",
		"./../out/secret", "a/..//../out/secret", "dir/../in/file", "a/b/out", "", "/", "//", "a\x00b", string(make([]byte, 5000)),
	}
	for _, root := range []bool{false, true} {
		resolvers(t, func(t *testing.T) {
			d := top(t, inside, Options{Root: root})
			for _, path := range paths {
				for _, o := range []OpenOptions{
					{Read: true, Follow: true}, {Read: true}, {Write: true, Follow: true, Create: true},
					{Write: true, Follow: true, Truncate: true}, {Directory: true, Follow: true},
				} {
					n, err := d.Open(path, o)
					if err != nil {
						continue
					}
					if n.Dir != nil {
						if where, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n.FD)); !within(where, inside) {
							t.Errorf("root %v, %+v: opened directory %s", root, o, where)
						}
						_ = n.Dir.Close()
						continue
					}
					where, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n.FD))
					_ = unix.Close(n.FD)
					if !within(where, inside) {
						t.Errorf("root %v, open %q %+v led to %s", root, path, o, where)
					}
				}
				if _, err := d.Stat("../out/secret", true); err == nil {
					t.Error("stat of the outside")
				}
				for name, err := range map[string]error{
					"mkdir":   d.Mkdir("dir/made"),
					"unlink":  d.Unlink("dir/secret"),
					"symlink": d.Symlink("x", "absdir/made"),
					"rename":  d.Rename("dir/secret", d, "stolen"),
					"link":    d.Link("dir/secret", d, "stolen"),
					"into":    d.Rename("file", d, "../out/file"),
					"times":   d.SetTimes("relative", true, [2]unix.Timespec{{Sec: 1}, {Sec: 1}}),
				} {
					if err == nil && !root {
						t.Errorf("%s reached the outside", name)
					}
				}
			}
		})
	}
	if got, err := os.ReadDir(outside); err != nil || len(got) != 1 {
		t.Errorf("the outside has changed: %v, %v", got, err)
	}
	b, err := os.ReadFile(outside + "/secret")
	if err != nil || string(b) != "secret" {
		t.Errorf("the secret has changed: %q, %v", b, err)
	}
	if st, err := os.Stat(outside + "/secret"); err != nil || st.ModTime().Unix() == 1 {
		t.Errorf("the secret's time has changed: %v", err)
	}
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// TestLinksInside: links that stay inside work, also from lower directories.
func TestLinksInside(t *testing.T) {
	inside, _ := layout(t)
	resolvers(t, func(t *testing.T) {
		for _, root := range []bool{false, true} {
			d := top(t, inside, Options{Root: root})
			sub := openDir(t, d, "a")
			lower := openDir(t, sub, "b")
			for _, c := range []struct {
				from   *Dir
				path   string
				want   string
				rooted bool // works only where "/" is the tree's top
			}{
				{d, "fine", "deep", false},
				{d, "a/up", "inside", false},
				{d, "rooted", "inside", true},
				{d, "rooteddir/b/deep", "deep", true},
				{sub, "up", "inside", false},
				{sub, "b/../b/deep", "deep", false},
				{lower, "rooted", "inside", true},
			} {
				n, err := c.from.Open(c.path, OpenOptions{Read: true, Follow: true})
				if c.rooted && !root {
					if !errors.Is(err, ErrEscape) {
						t.Errorf("%s: %v, want an escape", c.path, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("root %v: %s: %v", root, c.path, err)
				} else if got := readAll(t, n); got != c.want {
					t.Errorf("root %v: %s: %q, want %q", root, c.path, got, c.want)
				}
			}
			if _, err := sub.Open("../file", OpenOptions{Read: true}); !errors.Is(err, ErrEscape) {
				t.Errorf("a path that climbs above its directory: %v", err)
			}
		}
	})
}

func openDir(t *testing.T, d *Dir, path string) *Dir {
	t.Helper()
	n, err := d.Open(path, OpenOptions{Directory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Dir.Close() })
	return n.Dir
}

// TestMovedDirectory: a lower directory that was moved is not looked for where it was.
func TestMovedDirectory(t *testing.T) {
	inside, _ := layout(t)
	d := top(t, inside, Options{Root: true})
	sub := openDir(t, d, "a")
	if err := os.Rename(inside+"/a", inside+"/moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(inside+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Open("up", OpenOptions{Read: true, Follow: true}); !errors.Is(err, ErrEscape) {
		t.Errorf("got %v", err)
	}
	if _, err := sub.Stat("b/deep", true); err != nil {
		t.Errorf("what is below: %v", err)
	}
}

// TestRenameRace exchanges a directory for a link to the outside, and moves the current one up and
// down, while another thread looks files up through it.
func TestRenameRace(t *testing.T) {
	inside, outside := layout(t)
	if err := os.WriteFile(outside+"/deep", []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../out", inside+"/a/evil"); err != nil {
		t.Fatal(err)
	}
	resolvers(t, func(t *testing.T) {
		d := top(t, inside, Options{})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = unix.Renameat2(unix.AT_FDCWD, inside+"/a/b", unix.AT_FDCWD, inside+"/a/evil", unix.RENAME_EXCHANGE)
				_ = os.Rename(inside+"/a/b", inside+"/moved")
				_ = os.Rename(inside+"/moved", inside+"/a/b")
			}
		})
		found := 0
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			for _, path := range []string{"a/b/deep", "a/b/../b/deep", "a/evil/deep"} {
				n, err := d.Open(path, OpenOptions{Read: true, Follow: true})
				if err != nil {
					continue
				}
				found++
				if got := readAll(t, n); got != "deep" {
					t.Fatalf("%s: read %q", path, got)
				}
			}
		}
		close(stop)
		wg.Wait()
		if found == 0 {
			t.Error("no look-up succeeded at all")
		}
	})
}

// TestNeverBlocks: FIFOs, devices and sockets.
func TestNeverBlocks(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]uint64{"null": unix.Mkdev(1, 3), "urandom": unix.Mkdev(1, 9), "mem": unix.Mkdev(1, 1), "tty": unix.Mkdev(5, 0), "watchdog": unix.Mkdev(10, 130)}
	for name, dev := range nodes {
		if err := unix.Mknod(dir+"/"+name, unix.S_IFCHR|0o666, int(dev)); err != nil {
			t.Skipf("make device node: %v (needs root with CAP_MKNOD)", err)
		}
	}
	if err := unix.Mknod(dir+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/socket"}); err != nil {
		t.Fatal(err)
	}
	resolvers(t, func(t *testing.T) {
		d := top(t, dir, Options{})
		for _, c := range []struct {
			name string
			o    OpenOptions
			want error
		}{
			{"fifo", OpenOptions{Read: true}, nil},
			{"fifo", OpenOptions{Write: true}, unix.ENXIO},
			{"fifo", OpenOptions{Read: true, Write: true}, nil},
			{"null", OpenOptions{Read: true, Write: true, Truncate: true}, nil},
			{"urandom", OpenOptions{Read: true}, nil},
			{"mem", OpenOptions{Read: true}, unix.EACCES},
			{"tty", OpenOptions{Read: true}, unix.EACCES},
			{"watchdog", OpenOptions{Read: true}, unix.EACCES},
			{"disk", OpenOptions{Read: true}, unix.EACCES},
			{"socket", OpenOptions{Read: true}, unix.ENXIO},
			{"disk", OpenOptions{Create: true, Write: true}, unix.EACCES},
		} {
			n, err := d.Open(c.name, c.o)
			if !errors.Is(err, c.want) {
				t.Errorf("open %s %+v: %v, want %v", c.name, c.o, err, c.want)
			}
			if err == nil {
				_ = unix.Close(n.FD)
			}
		}
	})
}

// TestKernelFiles: what /proc and /sys would give away.
func TestKernelFiles(t *testing.T) {
	resolvers(t, func(t *testing.T) {
		d := top(t, "/", Options{Root: true})
		pid := fmt.Sprint(os.Getpid())
		for _, path := range []string{
			"proc/self/mem", "proc/self/maps", "proc/self/environ", "proc/self", "proc/self/fd/0", "proc/thread-self/mem", "proc/" + pid,
			"proc/self/root/etc/passwd", "proc/self/cwd", "proc/self/exe", "proc/kcore", "proc/kmsg", "proc/sys/kernel/hostname", "proc/mounts",
			"proc/sysrq-trigger", "proc/net/tcp",
		} {
			for _, o := range []OpenOptions{{Read: true, Follow: true}, {Write: true, Follow: true}, {Read: true}} {
				if n, err := d.Open(path, o); err == nil {
					t.Errorf("opened %s %+v", path, o)
					_ = unix.Close(n.FD)
				}
			}
		}
		for _, link := range []string{"proc/self/exe", "proc/self/cwd", "proc/self/root"} {
			b := make([]byte, 100)
			if n, err := d.Readlink(link, b); err == nil {
				t.Errorf("%s -> %s", link, b[:n])
			}
		}
		n, err := d.Open("proc/cpuinfo", OpenOptions{Read: true, Follow: true})
		if err != nil {
			t.Fatalf("proc/cpuinfo: %v", err)
		}
		if got := readAll(t, n); got == "" {
			t.Error("proc/cpuinfo is empty")
		}
		if _, err := d.Open("proc/cpuinfo", OpenOptions{Write: true}); err == nil {
			t.Error("proc/cpuinfo opened for writing")
		}
		if _, err := d.Open("sys/kernel/mm/ksm/run", OpenOptions{Write: true}); err != unix.EROFS && err != unix.ENOENT {
			t.Errorf("a file of /sys opened for writing: %v", err)
		}
		if err := d.Mkdir("sys/kernel/hachi-test"); err != unix.EROFS {
			t.Errorf("mkdir in /sys: %v", err)
		}
	})
}

func TestReadOnly(t *testing.T) {
	inside, _ := layout(t)
	other := t.TempDir()
	d := top(t, inside, Options{ReadOnly: true})
	w := top(t, other, Options{})
	for name, err := range map[string]error{
		"mkdir":      d.Mkdir("new"),
		"rmdir":      d.Rmdir("a"),
		"unlink":     d.Unlink("file"),
		"symlink":    d.Symlink("x", "new"),
		"rename":     d.Rename("file", d, "new"),
		"rename out": d.Rename("file", w, "new"),
		"link out":   d.Link("file", w, "new"), // through the new name it could be written
		"link in":    w.Link("nothing", d, "new"),
		"times":      d.SetTimes("file", false, [2]unix.Timespec{}),
		"times2":     d.SetTimes("fine", true, [2]unix.Timespec{}),
		"create":     opens(d, "new", OpenOptions{Create: true, Write: true}),
		"exclusive":  opens(d, "new", OpenOptions{Create: true, Exclusive: true}),
		"write":      opens(d, "file", OpenOptions{Write: true}),
		"truncate":   opens(d, "file", OpenOptions{Truncate: true}),
	} {
		if err != unix.EROFS {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	if err := opens(d, "file", OpenOptions{Read: true}); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := opens(d, "file", OpenOptions{Read: true, Create: true}); err != nil {
		t.Errorf("create of what exists: %v", err)
	}
}

func TestSingleFile(t *testing.T) {
	resolvers(t, func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range map[string]string{"file": "old", "other": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("other", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		d, w := top(t, dir, Options{Only: "file"}), top(t, t.TempDir(), Options{})
		if err := opens(w, "new", OpenOptions{Create: true, Write: true}); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{".", "./", "./."} {
			if st, err := d.Stat(path, true); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 3 {
				t.Errorf("stat %q: %+v, %v", path, st, err)
			}
		}
		for name, tt := range map[string]struct{ err, want error }{
			"read":               {opens(d, ".", OpenOptions{Read: true}), nil},
			"write":              {opens(d, ".", OpenOptions{Write: true, Create: true}), nil},
			"times":              {d.SetTimes(".", true, [2]unix.Timespec{}), nil},
			"as directory":       {opens(d, ".", OpenOptions{Directory: true}), unix.ENOTDIR},
			"neighbour":          {opens(d, "other", OpenOptions{Read: true}), unix.ENOTDIR},
			"itself by its name": {opens(d, "file", OpenOptions{Read: true}), unix.ENOTDIR},
			"dots that are none": {opens(d, "...", OpenOptions{Read: true}), unix.ENOTDIR},
			"above":              {opens(d, "..", OpenOptions{Read: true}), ErrEscape},
			"new":                {opens(d, "new", OpenOptions{Create: true, Write: true}), unix.ENOTDIR},
			"unlink":             {d.Unlink("."), unix.EBUSY},
			"unlink neighbour":   {d.Unlink("other"), unix.ENOTDIR},
			"replace":            {w.Rename("new", d, "."), unix.EBUSY},
			"list":               {d.List(0, make([]byte, 1024), func(Entry) bool { return true }), unix.ENOTDIR},
			"link":               {opens(top(t, dir, Options{Only: "link"}), ".", OpenOptions{Read: true, Follow: true}), unix.ELOOP},
			"read-only":          {opens(top(t, dir, Options{Only: "file", ReadOnly: true}), ".", OpenOptions{Write: true}), unix.EROFS},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("%s: %v, want %v", name, tt.err, tt.want)
			}
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 3 {
			t.Errorf("left %v, %v", names, err)
		}
	})
}

func opens(d *Dir, path string, o OpenOptions) error {
	n, err := d.Open(path, o)
	if err == nil {
		_ = unix.Close(n.FD)
	}
	return err
}

func TestSpelling(t *testing.T) {
	inside, _ := layout(t)
	resolvers(t, func(t *testing.T) {
		d := top(t, inside, Options{})
		for _, c := range []struct {
			what string
			err  error
			want error
		}{
			{"open file/", opens(d, "file/", OpenOptions{Read: true}), unix.ENOTDIR},
			{"open file/.", opens(d, "file/.", OpenOptions{Read: true}), unix.ENOTDIR},
			{"open a/", opens(d, "a/", OpenOptions{}), nil},
			{"open dir for writing", opens(d, "a", OpenOptions{Write: true}), unix.EISDIR},
			{"create a directory", opens(d, "a", OpenOptions{Create: true, Directory: true}), unix.EINVAL},
			{"open link itself", opens(d, "fine", OpenOptions{Read: true}), unix.ELOOP},
			{"open loop", opens(d, "loop", OpenOptions{Read: true, Follow: true}), unix.ELOOP},
			{"exclusive", opens(d, "file", OpenOptions{Create: true, Exclusive: true}), unix.EEXIST},
			{"exclusive through a link", opens(d, "dangling", OpenOptions{Create: true, Exclusive: true, Follow: true}), unix.EEXIST},
			{"unlink file/", d.Unlink("file/"), unix.ENOTDIR},
			{"unlink a", d.Unlink("a"), unix.EISDIR},
			{"rmdir file", d.Rmdir("file"), unix.ENOTDIR},
			{"rmdir a", d.Rmdir("a"), unix.ENOTEMPTY},
			{"rmdir .", d.Rmdir("."), unix.EINVAL},
			{"rmdir a/..", d.Rmdir("a/.."), unix.EINVAL},
			{"mkdir .", d.Mkdir("."), unix.EEXIST},
			{"rename .", d.Rename(".", d, "x"), unix.EBUSY},
			{"rename file/", d.Rename("file/", d, "x"), unix.ENOTDIR},
			{"symlink to /", d.Symlink("/", "x"), ErrEscape},
			{"link to x/", d.Link("file", d, "x/"), unix.ENOENT},
			{"long name", d.Mkdir(longName(300)), unix.ENAMETOOLONG},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
			}
		}
	})
}

func longName(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}

// TestChanges does each change once and looks at the result from outside.
func TestChanges(t *testing.T) {
	resolvers(t, func(t *testing.T) {
		base := t.TempDir()
		d := top(t, base, Options{})
		check := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("mkdir", d.Mkdir("a/"))
		check("mkdir", d.Mkdir("a/b"))
		check("create", opens(d, "a/one", OpenOptions{Create: true, Write: true}))
		check("symlink", d.Symlink("one", "a/link"))
		check("create through a dangling link", d.Symlink("later", "a/ahead"))
		check("create through a dangling link", opens(d, "a/ahead", OpenOptions{Create: true, Write: true, Follow: true}))
		check("hard link", d.Link("a/one", d, "a/b/two"))
		check("rename", d.Rename("a/b/", d, "c/"))
		times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1e9, Nsec: 5}}
		check("times of a link", d.SetTimes("a/link", false, times))
		check("times through a link", d.SetTimes("a/ahead", true, times))
		st, err := d.Stat("a/link", false)
		if err != nil || st.Mtim.Nano() != 1e18+5 {
			t.Errorf("time of the link %d, %v", st.Mtim.Nano(), err)
		}
		for name, changed := range map[string]bool{"a/one": false, "a/later": true} {
			info, err := os.Stat(filepath.Join(base, name))
			if err != nil || (info.ModTime().UnixNano() == 1e18+5) != changed {
				t.Errorf("%s: %v", name, err)
			}
		}
		var b [8]byte
		if n, err := d.Readlink("a/link", b[:2]); err != nil || string(b[:n]) != "on" {
			t.Errorf("a link into a short buffer: %q, %v", b[:n], err)
		}
		check("unlink", d.Unlink("c/two"))
		check("rmdir", d.Rmdir("c/"))
		var names []string
		sub := openDir(t, d, "a")
		check("list", sub.List(0, make([]byte, 1024), func(e Entry) bool {
			names = append(names, fmt.Sprint(string(e.Name), " ", e.Type))
			return true
		}))
		slices.Sort(names)
		want := []string{". 4", ".. 4", "ahead 10", "later 8", "link 10", "one 8"}
		if !slices.Equal(names, want) {
			t.Errorf("list %q, want %q", names, want)
		}
	})
}
