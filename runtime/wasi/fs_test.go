package wasi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestGoFiles: what Go programs do with files works, and ends up on the host as it should.
func TestGoFiles(t *testing.T) {
	root := t.TempDir()
	out := collect(t)
	p := start(t, buildGo(t, "kit"), Options{
		Args: []string{"kit", "files", "/data"}, Stdout: out.w, Stderr: out.w,
		Preopens: []Preopen{{Guest: "/data", Dir: openDir(t, root)}},
	})
	got := out.text(t, p)
	want := `" tw"
/data d--------- 0
/data/a d--------- 0
/data/a/b d--------- 0
/data/a/b/one L--------- 3
/data/a/b/two ---------- 6
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(root, "a/b/two"))
	if err != nil || info.ModTime().UnixNano() != 1e18+5 {
		t.Errorf("the file on the host: %v, %v", info, err)
	}
}

// TestPreopenOrder: listeners first, then directories, each as its libc's loop expects it.
func TestPreopenOrder(t *testing.T) {
	listener, _ := listen(t)
	g := newRaw(t, Options{
		Listeners: []*os.File{listener},
		Preopens:  []Preopen{{Guest: "/", Dir: openDir(t, t.TempDir())}, {Guest: "/data", Dir: openDir(t, t.TempDir())}},
	}, nil)
	g.ok("fd_prestat_get", 3, atResult)
	if tag := g.bytes(atResult, 1)[0]; tag == 0 {
		t.Error("a listener poses as a directory")
	}
	for fd, name := range map[uint64]string{4: "/", 5: "/data"} {
		g.ok("fd_prestat_get", fd, atResult)
		if tag, n := g.bytes(atResult, 1)[0], g.u32(atResult+4); tag != 0 || int(n) != len(name) {
			t.Errorf("descriptor %d: tag %d, length %d", fd, tag, n)
		}
		g.ok("fd_prestat_dir_name", fd, atData, uint64(len(name)))
		if got := string(g.bytes(atData, uint32(len(name)))); got != name {
			t.Errorf("descriptor %d is %q, want %q", fd, got, name)
		}
	}
	g.want(eBadf, "fd_prestat_get", 6, atResult)
	g.want(eNotdir, "fd_prestat_dir_name", 3, atData, 10)
	g.want(eNametoolng, "fd_prestat_dir_name", 5, atData, 4)
}

func withRoot(t *testing.T, readOnly bool) (*raw, string) {
	t.Helper()
	root := t.TempDir()
	return newRaw(t, Options{Preopens: []Preopen{{Guest: "/", Dir: openDir(t, root), ReadOnly: readOnly}}}, nil), root
}

// TestRights: a descriptor does what it has the rights for, and rights only ever shrink.
func TestRights(t *testing.T) {
	g, root := withRoot(t, false)
	if err := os.WriteFile(root+"/f", []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, e := g.openWith(3, "f", 0, 0, uint64(rightFdRead|rightFdSeek), 0)
	if e != success {
		t.Fatal(e)
	}
	if _, e := g.write(fd, "x"); e != eNotcapable {
		t.Errorf("write without the right: errno %d", e)
	}
	g.want(eNotcapable, "fd_filestat_get", fd, atResult)
	g.want(eNotcapable, "fd_allocate", fd, 0, 1)
	g.want(eNotcapable, "fd_fdstat_set_rights", fd, uint64(rightFdRead|rightFdWrite), 0)
	g.ok("fd_fdstat_set_rights", fd, uint64(rightFdSeek), 0)
	if _, e := g.read(fd, 1); e != eNotcapable {
		t.Errorf("read after the right was dropped: errno %d", e)
	}
	g.want(eNotcapable, "fd_fdstat_set_rights", fd, uint64(rightFdRead|rightFdSeek), 0)

	g.ok("fd_fdstat_set_rights", 3, uint64(rightPathOpen), uint64(rightFdRead))
	if fd, e = g.open(3, "f", 0, 0, 0); e != success {
		t.Fatal(e)
	}
	if _, e := g.write(fd, "x"); e != eNotcapable {
		t.Errorf("a right that the directory does not pass on: errno %d", e)
	}
	if _, e := g.open(3, "new", 0, openCreate, 0); e != eNotcapable {
		t.Errorf("create without the right: errno %d", e)
	}
	p, n := g.path(atPath, "d")
	g.want(eNotcapable, "path_create_directory", 3, p, n)
}

// TestDirectoryIsNoFile: programs that read what turns out to be a directory look for POSIX's word for that.
func TestDirectoryIsNoFile(t *testing.T) {
	g, _ := withRoot(t, false)
	if _, e := g.read(3, 1); e != eIsdir {
		t.Errorf("read: errno %d, want %d", e, eIsdir)
	}
	if _, e := g.write(3, "x"); e != eIsdir {
		t.Errorf("write: errno %d, want %d", e, eIsdir)
	}
}

func TestReadOnlyPreopen(t *testing.T) {
	g, root := withRoot(t, true)
	if err := os.WriteFile(root+"/f", []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, e := g.open(3, "new", 0, openCreate, 0); e != eRofs {
		t.Errorf("create: errno %d, want EROFS", e)
	}
	if _, e := g.open(3, "f", 0, 0, 0); e != eRofs {
		t.Errorf("open for writing: errno %d, want EROFS", e)
	}
	fd, e := g.openWith(3, "f", 0, 0, uint64(rightsAll&^(rightFdWrite|rightFdAllocate)), 0)
	if e != success {
		t.Fatal(e)
	}
	g.want(eRofs, "fd_filestat_set_times", fd, 1, 1, 5)
	g.want(eRofs, "fd_filestat_set_size", fd, 1)
	g.want(eRofs, "fd_filestat_set_times", 3, 1, 1, 5)
	if text, e := g.read(fd, 10); text != "text" || e != success {
		t.Errorf("read %q, errno %d", text, e)
	}
}

// TestAppendAndPwrite: appending is per call, so that pwrite writes where it is told to.
func TestAppendAndPwrite(t *testing.T) {
	g, root := withRoot(t, false)
	fd, e := g.open(3, "f", 0, openCreate, uint64(flagAppend))
	if e != success {
		t.Fatal(e)
	}
	for _, s := range []string{"one ", "two "} {
		if _, e := g.write(fd, s); e != success {
			t.Fatal(e)
		}
		g.ok("fd_seek", fd, 0, 0, atResult)
	}
	g.put(atData, []byte("X"))
	p, n := g.vector(1)
	g.ok("fd_pwrite", fd, p, n, 1, atResult)
	g.ok("fd_fdstat_set_flags", fd, uint64(flagSync|flagDsync))
	if _, e := g.write(fd, "Y"); e != success {
		t.Fatal(e)
	}
	got, err := os.ReadFile(root + "/f")
	if want := "YXe two "; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestReaddirPieces reads a directory with buffers of all sizes; entries are cut at the end of a
// buffer and go on from their cookie.
func TestReaddirPieces(t *testing.T) {
	g, root := withRoot(t, false)
	want := []string{".", ".."}
	for i := range 50 {
		name := strings.Repeat("n", 1+i*3)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []uint32{direntSize + 200, 300, 1000, 0x4000} {
		var got []string
		for cookie := uint64(0); ; {
			g.ok("fd_readdir", 3, atData, uint64(size), cookie, atResult)
			used := g.u32(atResult)
			b := g.bytes(atData, used)
			for len(b) >= direntSize {
				n := int(b[16]) | int(b[17])<<8
				if len(b) < direntSize+n {
					break
				}
				got = append(got, string(b[direntSize:direntSize+n]))
				cookie = g.u64(uint32(atData + int(used) - len(b)))
				b = b[direntSize+n:]
			}
			if used < size {
				break
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("buffer of %d bytes: %s", size, diff)
		}
	}
	g.want(eFault, "fd_readdir", 3, rawPages<<16-1, 100, 0, atResult)
	g.ok("fd_readdir", 3, atData, 0, 0, atResult)
}

// TestUmaskAndModes: what guests create is no more open than the process's umask says.
func TestUmaskAndModes(t *testing.T) {
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	g, root := withRoot(t, false)
	if _, e := g.open(3, "f", 0, openCreate, 0); e != success {
		t.Fatal(e)
	}
	p, n := g.path(atPath, "d")
	g.ok("path_create_directory", 3, p, n)
	for name, want := range map[string]os.FileMode{"f": 0o640, "d": 0o750} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}
