package jail

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory with files, whose names end in / for directories and contain -> for links.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		var err error
		if link, to, ok := strings.Cut(n, "->"); ok {
			err = os.Symlink(to, filepath.Join(dir, link))
		} else if strings.HasSuffix(n, "/") {
			err = os.MkdirAll(filepath.Join(dir, n), 0o755)
		} else {
			err = os.WriteFile(filepath.Join(dir, n), []byte("content of "+n), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func bind(source, target string, options ...string) Mount {
	return Mount{Type: "bind", Source: source, Target: target, Options: append([]string{"rbind"}, options...)}
}

func TestRootIsAllThereIs(t *testing.T) {
	needRoot(t)
	root := tree(t, "app.wasm", "etc/")
	host := tree(t, "secret")
	c := jailed(t, Config{Root: &Root{Path: root}}, newMounts())
	if got, want := c.must("list", "/"), "app.wasm etc"; got != want {
		t.Errorf("root holds %q; want %q", got, want)
	}
	c.refuse("read", "/etc/shadow", unix.ENOENT)
	c.refuse("read", "../../../../etc/shadow", unix.ENOENT)
	c.refuse("read", filepath.Join(host, "secret"), unix.ENOENT)
	c.refuse("read", "/proc/1/root/etc/shadow", unix.ENOENT)
	c.must("write", "/etc/new")
	c.must("mkdir", "/dir")
	c.must("remove", "/dir")
	c.must("work")
	if b, err := os.ReadFile(filepath.Join(root, "etc/new")); err != nil || string(b) != "written" {
		t.Errorf("file written inside: %q, %v", b, err)
	}
	checkStatus(t, c.cmd.Process.Pid)
}

func TestRootReadOnly(t *testing.T) {
	needRoot(t)
	c := jailed(t, Config{Root: &Root{
		Path: tree(t, "file", "data/"), ReadOnly: true,
		Mounts: []Mount{bind(tree(t, "x"), "/data", "rw"), bind(tree(t, "y"), "/made/for/it")},
	}}, newMounts())
	c.must("read", "/file")
	c.refuse("overwrite", "/file", unix.EROFS)
	c.refuse("write", "/new", unix.EROFS)
	c.must("overwrite", "/data/x")
	c.must("write", "/made/for/it/new")
}

func TestBindMounts(t *testing.T) {
	needRoot(t)
	source := tree(t, "file", "sub/")
	inner := tree(t, "deep")
	single := filepath.Join(tree(t, "resolv.conf"), "resolv.conf")
	// A mount below the source, in the child's namespace only.
	c := spawn(t, newMounts())
	root := tree(t)
	cfg := Config{Root: &Root{Path: root, Mounts: []Mount{
		bind(inner, "/inner"),
		bind(source, "/ro", "ro"),
		{Type: "bind", Source: source, Target: "/bind-without-type-option", Options: []string{"ro"}},
		{Type: "none", Source: source, Target: "/rro", Options: []string{"rbind", "rro"}},
		bind(single, "/etc/resolv.conf", "ro"),
		bind(source, "/rw", "rw", "rslave"),
		bind(source, "/shared", "rshared"),
		{Type: "proc", Source: "proc", Target: "/proc"},
		{Type: "sysfs", Source: "sysfs", Target: "/sys"},
		{Type: "cgroup", Source: "cgroup", Target: "/sys/fs/cgroup"},
		{Type: "mqueue", Source: "mqueue", Target: "/dev/mqueue"},
	}}}
	if rep := c.send(request{Enter: &cfg}); rep.Err != "" {
		t.Fatal(rep.Err)
	}
	c.must("read", "/ro/file")
	for _, p := range []string{"/ro/file", "/bind-without-type-option/file", "/rro/file", "/etc/resolv.conf"} {
		c.refuse("overwrite", p, unix.EROFS)
	}
	c.refuse("write", "/ro/new", unix.EROFS)
	if got := c.must("read", "/etc/resolv.conf"); got != "content of resolv.conf" {
		t.Errorf("single file mount holds %q", got)
	}
	c.must("overwrite", "/rw/file")
	c.must("read", "/inner/deep")
	c.refuse("stat", "/proc", unix.ENOENT)
	c.refuse("stat", "/sys", unix.ENOENT)
	c.refuse("stat", "/dev", unix.ENOENT)
	if b, err := os.ReadFile(single); err != nil || string(b) != "content of resolv.conf" {
		t.Errorf("source of a read-only mount: %q, %v", b, err)
	}
}

// rbind,ro leaves mounts below the source writable; rro does not.
func TestRecursiveReadOnly(t *testing.T) {
	needRoot(t)
	root := tree(t)
	for _, tt := range []struct {
		option string
		below  syscall.Errno
	}{{"ro", 0}, {"rro", unix.EROFS}} {
		// A bind of a bind: the source is within the root that is being built.
		c := jailed(t, Config{Root: &Root{Path: root, Mounts: []Mount{
			bind(tree(t, "below/"), "/outer"),
			bind(tree(t, "file"), "/outer/below"),
			bind(filepath.Join(root, "outer"), "/copy", tt.option),
		}}}, newMounts())
		if rep := c.do("overwrite", "/copy/below/file"); rep.Errno != tt.below {
			t.Errorf("%s: write below: %q; want errno %d", tt.option, rep.Err, tt.below)
		}
		c.refuse("write", "/copy/new", unix.EROFS)
	}
}

func TestTargetsCannotEscape(t *testing.T) {
	needRoot(t)
	outside := tree(t, "file", "dir/")
	root := tree(t, "abs->"+outside, "up->../../../../../../../../"+outside, "dangling->/run/made", "loop->loop",
		"var/", "var/run->../run/deep", "file->/elsewhere/made")
	source := tree(t, "inside")
	file := filepath.Join(source, "inside")
	c := jailed(t, Config{Root: &Root{Path: root, Mounts: []Mount{
		bind(source, "/abs/a"),
		bind(source, "/up/b"),
		bind(source, "/dangling"),
		bind(source, "/var/run/c"),
		bind(source, "/../../d"),
		bind(file, "/file"),
	}}}, newMounts())
	for _, p := range []string{outside + "/a", outside + "/b", "/run/made", "/run/deep/c", "/d"} {
		c.must("read", p+"/inside")
	}
	if got := c.must("read", "/elsewhere/made"); got != "content of inside" {
		t.Errorf("file at the end of a dangling link: %q", got)
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 2 {
		t.Errorf("directory outside after the mounts: %v, %v; want file and dir only", left, err)
	}
	bad := spawn(t, newMounts())
	rep := bad.send(request{Enter: &Config{Root: &Root{Path: root, Mounts: []Mount{bind(source, "/loop/x")}}}})
	if rep.Errno != unix.ELOOP {
		t.Errorf("mount on a loop of links: %q; want ELOOP", rep.Err)
	}
}

func TestTmpfsAndDevices(t *testing.T) {
	needRoot(t)
	c := jailed(t, Config{Root: &Root{Path: tree(t), Mounts: []Mount{
		{Type: "tmpfs", Source: "tmpfs", Target: "/dev", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Type: "tmpfs", Source: "shm", Target: "/dev/shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=64k"}},
		{Type: "tmpfs", Source: "tmpfs", Target: "/run/ro", Options: []string{"ro", "size=4k"}},
		{Type: "devpts", Source: "devpts", Target: "/dev/pts", Options: []string{"newinstance"}},
	}}}, newMounts())
	if got, want := c.must("list", "/dev"), "full null random shm urandom zero"; got != want {
		t.Errorf("/dev holds %q; want %q", got, want)
	}
	if got := c.must("read", "/dev/null"); got != "" {
		t.Errorf("/dev/null holds %q", got)
	}
	c.must("overwrite", "/dev/null")
	c.refuse("overwrite", "/dev/full", unix.ENOSPC)
	if got, want := c.must("stat", "/dev/shm"), "dtrwxrwxrwx"; got != want {
		t.Errorf("/dev/shm has mode %s; want %s", got, want)
	}
	if got := c.must("statfs", "/dev/shm"); !strings.HasPrefix(got, "size=65536 ") {
		t.Errorf("/dev/shm: %s; want 64 KiB", got)
	}
	c.must("write", "/dev/shm/x")
	c.refuse("write", "/run/ro/x", unix.EROFS)
}

// A device node in an image or volume does not work.
func TestDeviceNodesAreDead(t *testing.T) {
	needRoot(t)
	source, root := tree(t), tree(t)
	for _, dir := range []string{source, root} {
		if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	c := jailed(t, Config{Root: &Root{Path: root, Mounts: []Mount{bind(source, "/vol", "dev")}}}, newMounts())
	c.refuse("read", "/null", unix.EACCES)
	c.refuse("read", "/vol/null", unix.EACCES)
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	needRoot(t)
	c := jailed(t, Config{Root: &Root{
		Path:          tree(t, "secret/", "secret/key", "token", "conf/", "conf/file", "out->/etc/shadow"),
		MaskedPaths:   []string{"/secret", "/token", "/absent", "/out", "/proc/kcore"},
		ReadonlyPaths: []string{"/conf", "/absent/too"},
	}}, newMounts())
	if got := c.must("list", "/secret"); got != "" {
		t.Errorf("masked directory holds %q", got)
	}
	if got := c.must("read", "/token"); got != "" {
		t.Errorf("masked file holds %q", got)
	}
	c.refuse("write", "/secret/new", unix.EROFS)
	c.must("read", "/conf/file")
	c.refuse("overwrite", "/conf/file", unix.EROFS)
}

func TestOverlayRootfs(t *testing.T) {
	needRoot(t)
	layers := tree(t, "1/", "1/a", "2/", "2/b", "upper/", "work/", "root/")
	at := func(n string) string { return filepath.Join(layers, n) }
	overlay := func(lower string, more ...string) []Mount {
		return []Mount{{Type: "overlay", Source: "overlay", Options: append([]string{"index=off", "lowerdir=" + lower}, more...)}}
	}
	c := jailed(t, Config{Root: &Root{
		Path: at("root"), Rootfs: overlay(at("1")+":"+at("2"), "upperdir="+at("upper"), "workdir="+at("work")),
		Mounts: []Mount{bind(tree(t, "c"), "/mnt/c", "ro")},
	}}, newMounts())
	if got, want := c.must("list", "/"), "a b mnt"; got != want {
		t.Errorf("overlay holds %q; want %q", got, want)
	}
	c.must("overwrite", "/a")
	if b, _ := os.ReadFile(at("1/a")); string(b) != "content of 1/a" {
		t.Errorf("lower layer changed to %q", b)
	}
	if b, _ := os.ReadFile(at("upper/a")); string(b) != "written of 1/a" {
		t.Errorf("upper layer holds %q", b)
	}
	if left, _ := os.ReadDir(at("root")); len(left) != 0 {
		t.Errorf("mount visible on the host: %v", left)
	}

	// More layers than one page of options can name in full.
	many := t.TempDir()
	os.Chmod(many, 0o755)
	var lower []string
	for i := range 80 {
		dir := filepath.Join(many, strings.Repeat("x", 30)+itoa(i), "fs")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		lower = append(lower, dir)
	}
	os.WriteFile(filepath.Join(lower[79], "last"), nil, 0o644)
	if list := strings.Join(lower, ":"); len(list) <= os.Getpagesize() {
		t.Fatalf("test is too small: %d bytes", len(list))
	}
	cmany := jailed(t, Config{Root: &Root{Path: at("root"), Rootfs: overlay(strings.Join(lower, ":"))}}, newMounts())
	if got, want := cmany.must("list", "/"), "last"; got != want {
		t.Errorf("overlay of 80 layers holds %q; want %q", got, want)
	}
}

func TestBindRootfsOfContainerd(t *testing.T) {
	needRoot(t)
	snapshot := tree(t, "app.wasm")
	c := jailed(t, Config{Root: &Root{Path: tree(t), Rootfs: []Mount{bind(snapshot, "", "ro")}}}, newMounts())
	c.must("read", "/app.wasm")
	c.refuse("overwrite", "/app.wasm", unix.EROFS)
	rep := spawn(t, newMounts()).send(request{Enter: &Config{Root: &Root{
		Path: tree(t), Rootfs: []Mount{bind(snapshot, "", "ro")}, Mounts: []Mount{bind(snapshot, "/missing")},
	}}})
	if rep.Errno != unix.EROFS || !strings.Contains(rep.Err, "/missing") {
		t.Errorf("mount point missing in a read-only rootfs: %q; want EROFS with its name", rep.Err)
	}
}

// A second process of the container moves into the root of the first.
func TestEnterBuiltRoot(t *testing.T) {
	needRoot(t)
	root := tree(t, "app.wasm")
	first := jailed(t, Config{Root: &Root{Path: root, Mounts: []Mount{bind(tree(t, "v"), "/vol", "ro")}}}, newMounts())
	link := "/proc/" + itoa(first.cmd.Process.Pid) + "/root"
	fd, err := unix.Open(link, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), link)
	defer f.Close()
	c := jailed(t, Config{Root: &Root{FD: 3}, User: &User{UID: 1000, GID: 1000}}, newMounts(), f)
	if got, want := c.must("list", "/"), "app.wasm vol"; got != want {
		t.Errorf("root holds %q; want %q", got, want)
	}
	c.must("read", "/vol/v")
	c.refuse("overwrite", "/vol/v", unix.EROFS, unix.EACCES)
	c.refuse("read", "/../../../etc/shadow", unix.ENOENT)
	c.refuse("getfd", "3", unix.EBADF)
	c.must("work")
	checkStatus(t, c.cmd.Process.Pid)
}

func TestUnsupported(t *testing.T) {
	needRoot(t)
	dir := tree(t)
	for _, tt := range []struct {
		name, want string
		root       Root
	}{
		{"relative root", "not absolute", Root{Path: "rootfs"}},
		{"relative source", "not absolute", Root{Path: dir, Mounts: []Mount{bind("x", "/x")}}},
		{"no source", "/does/not/exist", Root{Path: dir, Mounts: []Mount{bind("/does/not/exist", "/x")}}},
		{"type", `type "nfs" is not supported`, Root{Path: dir, Mounts: []Mount{{Type: "nfs", Target: "/x"}}}},
		{"idmap", "id-mapped", Root{Path: dir, Mounts: []Mount{bind(dir, "/x", "idmap")}}},
		{"bind option", `unknown option "size=1"`, Root{Path: dir, Mounts: []Mount{bind(dir, "/x", "size=1")}}},
		{"tmpfs option", `tmpfs option "nonsense=1"`, Root{Path: dir, Mounts: []Mount{{Type: "tmpfs", Target: "/x", Options: []string{"nonsense=1"}}}}},
	} {
		rep := spawn(t, newMounts()).send(request{Enter: &Config{Root: &tt.root}})
		if !strings.Contains(rep.Err, tt.want) {
			t.Errorf("%s: %q; want it to contain %q", tt.name, rep.Err, tt.want)
		}
	}
}
