package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childEnv = "HACHI_CGROUP_CHILD"

// testParent is the group above all groups of this test run.
var testParent = fmt.Sprintf("/hachi-test-%d", os.Getpid())

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "sleep":
		time.Sleep(time.Minute)
		os.Exit(0)
	case "write":
		f, err := os.CreateTemp("", "hachi-cgroup")
		if err != nil {
			panic(err)
		}
		os.Remove(f.Name())
		for {
			if _, err := f.WriteAt(make([]byte, 1<<16), 0); err != nil {
				panic(err)
			}
			f.Sync() // in this process, which the kernel then charges
		}
	case "hog":
		var keep [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
			_ = keep
		}
	}
	before := openFDs()
	restore := keepControllers()
	code := m.Run()
	for _, h := range testHosts() {
		for _, dir := range append(dirsOf(h), h.v2) {
			if dir == "" {
				continue
			}
			left, _ := filepath.Glob(filepath.Join(dir, testParent, "*"))
			for _, l := range left {
				if st, err := os.Stat(l); err == nil && st.IsDir() {
					fmt.Fprintln(os.Stderr, "cgroup left:", l)
					code = 1
				}
			}
			removeDir(filepath.Join(dir, testParent), time.Now().Add(time.Second))
		}
	}
	restore()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if after := openFDs(); !slices.Equal(before, after) {
		fmt.Fprintf(os.Stderr, "descriptors leaked: before %v, after %v\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// keepControllers remembers what the top of the cgroup2 tree hands on; creating groups adds to it.
func keepControllers() (restore func()) {
	root := testHosts()["real"].v2
	before, err := read(root, "cgroup.subtree_control")
	if root == "" || err != nil {
		return func() {}
	}
	return func() {
		after, _ := read(root, "cgroup.subtree_control")
		for c := range strings.FieldsSeq(after) {
			if !slices.Contains(strings.Fields(before), c) {
				write(root, "cgroup.subtree_control", "-"+c)
			}
		}
	}
}

func dirsOf(h *host) []string {
	var dirs []string
	for _, t := range h.v1 {
		dirs = append(dirs, t.dir)
	}
	return dirs
}

func openFDs() []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var open []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(to, "anon_inode:[event") || filepath.Base(filepath.Dir(to)) == "fd" {
			continue
		}
		open = append(open, to)
	}
	slices.Sort(open)
	return open
}

// testHosts are the machines that this one can be: as it is, without its cgroup2 tree, and without its v1 trees.
func testHosts() map[string]*host {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		panic(err)
	}
	var v1, v2 strings.Builder
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, " - cgroup ") {
			v1.WriteString(line)
		}
		if strings.Contains(line, " - cgroup2 ") {
			v2.WriteString(line)
		}
	}
	hosts := map[string]*host{"real": parseHost(string(info))}
	if v1.Len() > 0 && v2.Len() > 0 {
		hosts["v1 only"] = parseHost(v1.String())
		hosts["v2 only"] = parseHost(v2.String())
	}
	return hosts
}

// onEachHost runs a test on every machine that this one can be.
func onEachHost(t *testing.T, test func(t *testing.T, m *Manager)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: rerun as root")
	}
	for name, h := range testHosts() {
		t.Run(name, func(t *testing.T) {
			m := newManager(h, Options{})
			t.Cleanup(func() { m.Close() })
			test(t, m)
		})
	}
}

// command is this test as a child that sleeps, hogs memory and so on.
func command(what string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + what, "GOMAXPROCS=1"}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// spawn starts a child in g and ends it with the test.
func spawn(t testing.TB, g *Group, what string) *exec.Cmd {
	t.Helper()
	cmd := command(what)
	if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// create makes a group below testParent and removes it with the test, after its processes.
func create(t testing.TB, m *Manager, name string) *Group {
	t.Helper()
	g, err := m.Create(testParent+"/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Kill(); err != nil {
			t.Error(err)
		}
		if err := g.Delete(); err != nil {
			t.Error(err)
		}
	})
	return g
}
