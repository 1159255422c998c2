package clientsuite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

// selected are the suites about containers, tasks and daemon restarts; the rest is about images and content, and
// never meets a shim.
const selected = "^(TestContainer|TestTask|TestDaemon|TestRestart)"

// insideEnv marks the process that is already in the namespaces.
const insideEnv = "HACHI_CLIENTSUITE_INSIDE"

// known are tests that cannot pass here, each with its reason. They are run all the same, and one
// that passes must leave this list.
var known = map[string]string{}

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testenv.Main(m))
}

func TestRunc(t *testing.T) { runSuite(t, "io.containerd.runc.v2", "") }

func TestHachi(t *testing.T) { runSuite(t, "io.containerd.hachi.v1", testenv.Bin(t)) }

func runSuite(t *testing.T, runtime, bin string) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	testenv.NeedTool(t, "busybox")
	containerd := testenv.Containerd(t, "2.4.2")
	suite := testenv.ClientSuite(t)
	release, err := reap.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	// "testing" is the suite's containerd namespace and so its parent cgroup.
	scope := leak.Scope{Marks: []string{"/testing/", "containerd-test"}, Trees: []string{"/run/hachi"}}
	before := leak.Take(scope)

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), insideEnv+"=1", "TEST_RUNTIME="+runtime, "SUITE="+suite,
		"PATH="+strings.Join([]string{bin, containerd, os.Getenv("PATH")}, ":"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runErr := cmd.Run()
	log := out.String()
	if keep := os.Getenv("HACHI_KEEP_LOGS"); keep != "" {
		_ = os.MkdirAll(keep, 0o755)
		_ = os.WriteFile(filepath.Join(keep, "clientsuite-"+runtime+".log"), out.Bytes(), 0o644)
	}
	passed, failed, skipped := results(log)
	t.Logf("%s: %d passed, %d failed, %d skipped by the suite itself", runtime, len(passed), len(failed), len(skipped))
	for name, reason := range skipped {
		t.Logf("skipped: %s: %s", name, reason)
	}
	for _, name := range failed {
		if _, ok := known[name]; !ok {
			t.Errorf("%s\n%s", name, excerpt(log, name))
		}
	}
	for _, name := range passed {
		if reason, ok := known[name]; ok {
			t.Errorf("%s passes, but is listed as known to fail: %s", name, reason)
		}
	}
	if len(passed) == 0 || (runErr != nil && len(failed) == 0) {
		t.Errorf("the suite did not run to its end: %v\n%s", runErr, tail(log, 40))
	}
	// The suite removes its root itself unless it breaks off; what was mounted in it went with the namespace.
	if err := os.RemoveAll("/var/lib/containerd-test"); err != nil {
		t.Error(err)
	}
	daemon.RemoveCgroups("testing")
	for _, left := range leak.Since(before, scope, 5*time.Second) {
		t.Errorf("left behind: %s", left)
	}
}

var verdict = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\S+) \(`)

// results reads the top-level verdicts of go test -v.
func results(log string) (passed, failed []string, skipped map[string]string) {
	skipped = map[string]string{}
	for _, m := range verdict.FindAllStringSubmatchIndex(log, -1) {
		name := log[m[4]:m[5]]
		switch log[m[2]:m[3]] {
		case "PASS":
			passed = append(passed, name)
		case "FAIL":
			failed = append(failed, name)
		default:
			_, rest, _ := strings.Cut(log[m[0]:], "\n")
			reason, _, _ := strings.Cut(rest, "\n")
			skipped[name] = strings.TrimSpace(reason)
		}
	}
	return passed, failed, skipped
}

// excerpt is what the log says about one test: the indented lines after those that name it.
func excerpt(log, name string) string {
	var lines []string
	follow := false
	for _, line := range strings.Split(log, "\n") {
		switch {
		case strings.HasPrefix(line, "--- FAIL: "+name+" ") || line == "=== NAME  "+name || line == "=== CONT  "+name || line == "=== RUN   "+name:
			follow = true
		case follow && !strings.HasPrefix(line, " "):
			follow = false
		}
		// The client's own log is long and seldom says why.
		if follow && !strings.Contains(line, "log_hook.go:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(len(lines), 40)], "\n")
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
