package jail

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func ptr[T any](v T) *T { return &v }

func TestIdentity(t *testing.T) {
	needRoot(t)
	root := tree(t, "file")
	if err := os.Chmod(filepath.Join(root, "file"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Root:        &Root{Path: root, Mounts: []Mount{{Type: "tmpfs", Target: "/tmp", Options: []string{"mode=1777"}}}},
		User:        &User{UID: 1234, GID: 2345, Groups: []uint32{7, 5, 7}, Umask: ptr(uint32(0o027))},
		Rlimits:     []Rlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE"}},
		OOMScoreAdj: ptr(500),
	}
	c := jailed(t, cfg, newMounts())
	if got, want := c.must("identity"), "1234 1234 2345 2345 [5 7]"; got != want {
		t.Errorf("identity %s; want %s", got, want)
	}
	c.refuse("read", "/file", unix.EACCES)
	if got, want := c.must("rlimit", "RLIMIT_NOFILE"), "100 200"; got != want {
		t.Errorf("open files %s; want %s", got, want)
	}
	c.must("mkdir", "/tmp/d")
	if got, want := c.must("stat", "/tmp/d"), "drwxr-x---"; got != want {
		t.Errorf("new directory has mode %s; want %s", got, want)
	}
	if got := strings.TrimSpace(readFile("/proc/" + itoa(c.cmd.Process.Pid) + "/oom_score_adj")); got != "500" {
		t.Errorf("oom_score_adj %s; want 500", got)
	}
	c.must("work")
	checkStatus(t, c.cmd.Process.Pid)
}

func TestRefusedSettings(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		c          Config
	}{
		{"rlimit name", `"RLIMIT_X": unknown`, Config{Rlimits: []Rlimit{{Type: "RLIMIT_X"}}}},
		{"path", "/does/not/exist", Config{Paths: []Path{{Path: "/does/not/exist"}}}},
	} {
		rep := spawn(t, nil).send(request{Enter: &tt.c})
		if !strings.Contains(rep.Err, tt.want) {
			t.Errorf("%s: %q; want it to contain %q", tt.name, rep.Err, tt.want)
		}
	}
	// Lower than we may go: the inherited score stays, as with CRI's restrict_oom_score_adj.
	if c := jailed(t, Config{OOMScoreAdj: ptr(-999)}, nil); c != nil {
		got := strings.TrimSpace(readFile("/proc/" + itoa(c.cmd.Process.Pid) + "/oom_score_adj"))
		if own := strings.TrimSpace(readFile("/proc/self/oom_score_adj")); got != own && got != "-999" {
			t.Errorf("oom_score_adj %s; want %s or -999", got, own)
		}
	}
}

func TestOrdinaryUser(t *testing.T) {
	needRoot(t) // to become one
	dir := tree(t, "ro/", "ro/file", "rw/", "rw/file", "other")
	for _, n := range []string{"rw", "rw/file", "ro/file"} {
		if err := os.Chown(filepath.Join(dir, n), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	// The directories above belong to root and are closed to others.
	for d := filepath.Dir(dir); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c := jailed(t, Config{Paths: []Path{
		{Path: filepath.Join(dir, "rw")}, {Path: filepath.Join(dir, "ro"), ReadOnly: true}, {Path: filepath.Join(dir, "other"), ReadOnly: true},
	}}, attr)
	c.must("read", filepath.Join(dir, "ro/file"))
	c.must("read", filepath.Join(dir, "other"))
	c.must("list", filepath.Join(dir, "rw"))
	c.must("overwrite", filepath.Join(dir, "rw/file"))
	c.must("write", filepath.Join(dir, "rw/new"))
	c.refuse("overwrite", filepath.Join(dir, "ro/file"), unix.EACCES)
	c.refuse("write", filepath.Join(dir, "ro/new"), unix.EACCES)
	c.refuse("read", "/etc/passwd", unix.EACCES)
	c.refuse("list", "/", unix.EACCES)
	c.refuse("exec", "/bin/true", unix.EPERM, unix.EACCES)
	c.must("work")
	status := readFile("/proc/" + itoa(c.cmd.Process.Pid) + "/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"} {
		if !strings.Contains(status, want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
	denied := spawn(t, attr).send(request{Enter: &Config{User: &User{UID: 0, GID: 0}}})
	if denied.Errno != unix.EPERM || !strings.Contains(denied.Err, "CAP_SET") {
		t.Errorf("ordinary user becomes root: %q; want EPERM and what it needs", denied.Err)
	}
}

// A jail without paths has only its descriptors and the network.
func TestNoPaths(t *testing.T) {
	c := jailed(t, Config{}, nil)
	c.refuse("read", "/etc/passwd", unix.EACCES)
	c.refuse("list", "/", unix.EACCES)
	c.must("listen")
	c.must("work")
}

// The spawner's trick: children of a stripped thread have nothing to take out of their bounding set, and still
// everything to build a root with.
func TestStripThread(t *testing.T) {
	needRoot(t)
	var c *child
	cfg := Config{Root: &Root{Path: tree(t, "f")}, User: &User{UID: 1, GID: 1}}
	done := make(chan error, 1)
	quit := make(chan struct{})
	var ended = make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlock: the thread ends
		if unix.Gettid() == unix.Getpid() {
			other := make(chan struct{})
			go func() {
				defer close(other)
				runtime.LockOSThread()
				stripAndSpawn(t, &c, done, quit)
			}()
			<-other
			runtime.UnlockOSThread()
			return
		}
		stripAndSpawn(t, &c, done, quit)
	}()
	defer func() { close(quit); <-ended }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	status := readFile("/proc/" + itoa(c.cmd.Process.Pid) + "/status")
	if !strings.Contains(status, "CapBnd:\t0000000000000000") || strings.Contains(status, "CapEff:\t0000000000000000") {
		t.Errorf("child of a stripped thread:\n%s", status)
	}
	if rep := c.send(request{Enter: &cfg}); rep.Err != "" {
		t.Fatal(rep.Err)
	}
	c.must("read", "/f")
	c.must("work")
	checkStatus(t, c.cmd.Process.Pid)
}

func stripAndSpawn(t *testing.T, c **child, done chan error, quit chan struct{}) {
	if err := StripThread(); err != nil {
		done <- err
		return
	}
	*c = spawn(t, newMounts())
	done <- nil
	<-quit
}

// middleMain starts a jailed child, tells its host pid, and waits to be killed.
func middleMain() int {
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=jailed"}
	cmd.Stderr = os.Stderr
	var attr syscall.SysProcAttr
	if err := json.Unmarshal([]byte(os.Getenv("ATTR")), &attr); err != nil {
		return 5
	}
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = &attr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 6
	}
	lines := bufio.NewReader(out)
	for _, req := range []string{os.Getenv("CONFIG"), os.Getenv("THEN")} {
		if req == "" {
			continue
		}
		fmt.Fprintln(in, req)
		if _, err := lines.ReadString('\n'); err != nil {
			return 7
		}
	}
	fmt.Println(cmd.Process.Pid)
	time.Sleep(time.Minute)
	return 0
}

func TestDiesWithParent(t *testing.T) {
	needRoot(t)
	root := tree(t)
	for _, tt := range []struct {
		name  string
		flags uintptr
		c     Config
		then  string
	}{
		{"idle", syscall.CLONE_NEWNS, Config{Root: &Root{Path: root}}, ""},
		{"other user", syscall.CLONE_NEWNS, Config{Root: &Root{Path: root}, User: &User{UID: 1000, GID: 1000}}, ""},
		{"spinning", syscall.CLONE_NEWNS, Config{Root: &Root{Path: root}, User: &User{UID: 1000, GID: 1000}}, `{"do":"spin"}`},
		{"own pid namespace", syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Config{Root: &Root{Path: root}, User: &User{UID: 1000, GID: 1000}}, `{"do":"spin"}`},
		{"no root", 0, Config{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attr, _ := json.Marshal(syscall.SysProcAttr{Cloneflags: tt.flags})
			config, _ := json.Marshal(request{Enter: &tt.c})
			middle := exec.Command(childExe(t))
			middle.Env = []string{childEnv + "=middle", "ATTR=" + string(attr), "CONFIG=" + string(config), "THEN=" + tt.then}
			middle.Stderr = os.Stderr
			out, err := middle.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := middle.Start(); err != nil {
				t.Fatal(err)
			}
			defer middle.Wait()
			line, err := bufio.NewReader(out).ReadString('\n')
			middle.Process.Kill()
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(line))
			for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					syscall.Kill(pid, syscall.SIGKILL)
					t.Fatal("child outlives its parent")
				}
			}
		})
	}
}

// alive is false for a zombie: who adopts it is not ours to know.
func alive(pid int) bool {
	stat := readFile("/proc/" + itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(stat, ") ")
	return rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}

// BenchmarkEnter is what Enter adds to a start: with the mounts of a pod, as a root child born with or
// without a bounding set.
func BenchmarkEnter(b *testing.B) {
	needRoot(b)
	root, vol := tree(b), tree(b, "hosts")
	cfg := Config{
		Root: &Root{
			Path: root, ReadOnly: true,
			Mounts: []Mount{
				{Type: "proc", Target: "/proc"}, {Type: "sysfs", Target: "/sys"}, {Type: "devpts", Target: "/dev/pts"},
				{Type: "tmpfs", Target: "/dev", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
				bind(vol, "/data", "rprivate", "rw"), bind(vol+"/hosts", "/etc/hosts", "rprivate", "rw"),
				bind(vol+"/hosts", "/etc/hostname", "rprivate", "rw"), bind(vol+"/hosts", "/etc/resolv.conf", "rprivate", "rw"),
			},
			MaskedPaths:   []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"},
		},
		User: &User{UID: 1000, GID: 1000},
	}
	asRoot := cfg
	asRoot.User = &User{}
	for _, bench := range []struct {
		name  string
		c     Config
		strip bool
	}{{"pod", cfg, false}, {"pod/stripped", cfg, true}, {"pod/stripped/root", asRoot, true}, {"bare/root", Config{}, true}} {
		b.Run(bench.name, func(b *testing.B) {
			if bench.strip {
				runtime.LockOSThread() // never unlocked: the thread ends with the benchmark's goroutine
				if err := StripThread(); err != nil {
					b.Fatal(err)
				}
			}
			var enter []time.Duration
			for b.Loop() {
				c := spawn(b, newMounts())
				c.do("identity")
				start := time.Now()
				if rep := c.send(request{Enter: &bench.c}); rep.Err != "" {
					b.Fatal(rep.Err)
				}
				enter = append(enter, time.Since(start))
				c.cmd.Process.Kill()
			}
			b.ReportMetric(float64(median(enter).Microseconds()), "enter-us")
		})
	}
}
