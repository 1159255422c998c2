package cri

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

// insideEnv marks the process that is already in the namespaces.
const insideEnv = "HACHI_CRITEST_INSIDE"

// handlers are of containerd's configuration; runc, which the others are measured by, is the first.
var handlers = []string{"runc", "hachi", "hachi-sandbox"}

var focus = flag.String("focus", "", "run only the specs that match, as ginkgo's flag")

// machine are specs that runc fails here too, each with its reason; they say nothing about hachi. One that passes must
// leave this list.
var machine = map[string]string{
	"Image Manager public image with digest should be pulled and removed [Conformance]": "only the Internet has the image of that digest",
	"Security Context bucket runtime should support MaskedPaths":                        "Debian's busybox is its own ls, and never looks at the one that is masked",
}

// differences are specs that runc passes here and hachi does not, by handler, each with its reason. One that passes must
// leave this list.
var differences = map[string]map[string]string{
	"hachi":         {},
	"hachi-sandbox": {},
}

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(testenv.Main(m))
}

func TestCRI(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tool := range []string{"runc", "busybox", "nft"} {
		testenv.NeedTool(t, tool)
	}
	release, err := reap.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	// CRI's containerd namespace is the parent cgroup.
	scope := leak.Scope{Marks: []string{"/k8s.io/"}, Trees: []string{"/run/hachi"}}
	before := leak.Take(scope)
	tools := []string{"CONTAINERD=" + testenv.Containerd(t, "2.4.2"), "HACHI=" + testenv.Bin(t), "CRITEST=" + testenv.CRITest(t), "CNI=" + testenv.CNIPlugins(t),
		"EUID_PROGRAM=" + guest.Built(t, guest.Linux, "conformance/cri/euid")}
	all := make([]map[string]spec, len(handlers))
	var running sync.WaitGroup
	for i, handler := range handlers {
		dir, again := testenv.ShortDir(t), testenv.ShortDir(t)
		running.Go(func() {
			all[i] = run(t, handler, *focus, dir, tools)
			if names := raced(all[i]); len(names) > 0 {
				t.Logf("critest with %s: once more %q, which met containerd's race between an exit and a removal", handler, names)
				maps.Copy(all[i], run(t, handler, strings.Join(names, "|"), again, tools))
			}
		})
	}
	running.Wait()
	daemon.RemoveCgroups("k8s.io")
	for _, left := range leak.Since(before, scope, 5*time.Second) {
		t.Errorf("left behind: %s", left)
	}
	for i, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			for name, peer := range all[0] {
				s, ok := all[i][name]
				if !ok {
					s.State = "not run"
				}
				if i == 0 {
					s.check(t, name, machine[name])
				} else if peer.State != "skipped" && machine[name] == "" {
					s.check(t, name, differences[handler][name])
				}
			}
		})
	}
}

// spec is one verdict of critest.
type spec struct {
	State   string // of ginkgo: passed, failed, skipped ...
	Failure string
}

// check makes a verdict that of a subtest. known is why it is known to fail; empty for one that must pass.
func (s spec) check(t *testing.T, name, known string) {
	t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
		switch {
		case s.State == "skipped":
			t.Skipf("critest itself: %s", s.Failure)
		case s.State == "passed" && known != "":
			t.Errorf("it passes, but is listed as known to fail: %s", known)
		case s.State != "passed" && known == "":
			t.Errorf("%s: %s", s.State, s.Failure)
		case s.State != "passed":
			t.Logf("%s, as known: %s", s.State, known)
		}
	})
}

// raced returns patterns for the specs that failed because RemoveContainer came just when a container of its own accord had
// ended: containerd takes its task away before it writes the state down, and then says that what is gone still runs
// (stopContainer and handleContainerExit, internal/cri/server, 2.4.2). It is the same with any runtime.
func raced(specs map[string]spec) (patterns []string) {
	for name, s := range specs {
		if s.State == "failed" && strings.Contains(s.Failure, "container is still running, to stop first") {
			patterns = append(patterns, regexp.QuoteMeta(name))
		}
	}
	return patterns
}

func TestRaced(t *testing.T) {
	const failure = "rpc error: failed to set removing state for container \"4d\": container is still running, to stop first"
	got := raced(map[string]spec{
		"a (b) [c]": {"failed", failure}, "d": {"failed", "another"}, "e": {"passed", ""}, "f": {"skipped", failure},
	})
	if want := []string{`a \(b\) \[c\]`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// run runs the specs of critest that match with one handler, in a process in namespaces of its own.
func run(t *testing.T, handler, focus, dir string, tools []string) map[string]spec {
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), tools...), insideEnv+"=1", "HANDLER="+handler, "DIR="+dir, "REPORT="+report, "FOCUS="+focus, "ARCH="+runtime.GOARCH)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC}
	begin := time.Now()
	runErr := cmd.Run()
	if keep := os.Getenv("HACHI_KEEP_LOGS"); keep != "" {
		_ = os.MkdirAll(keep, 0o755)
		_ = os.WriteFile(filepath.Join(keep, "critest-"+handler+".log"), out.Bytes(), 0o644)
	}
	specs, err := read(report)
	if err != nil || runErr != nil {
		t.Errorf("critest with %s did not run to its end: %v, %v\n%s", handler, runErr, err, out.Bytes()[max(0, out.Len()-4000):])
	}
	t.Logf("critest with %s: %d specs in %v", handler, len(specs), time.Since(begin).Round(time.Second))
	return specs
}

// read reads the verdicts from ginkgo's report; specs that its command line did not select are not in it.
func read(file string) (map[string]spec, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			Failure                 struct{ Message string }
		}
	}
	if err := json.Unmarshal(raw, &suites); err != nil {
		return nil, err
	}
	specs := map[string]spec{}
	for _, s := range suites {
		for _, r := range s.SpecReports {
			if r.State == "skipped" && r.Failure.Message == "" { // not selected
				continue
			}
			name := strings.Join(append(r.ContainerHierarchyTexts, r.LeafNodeText), " ")
			if r.LeafNodeType != "It" {
				name = r.LeafNodeType
			}
			specs[strings.TrimPrefix(name, "[k8s.io] ")] = spec{r.State, r.Failure.Message}
		}
	}
	return specs, nil
}
