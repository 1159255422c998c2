package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) {
	code := testenv.Main(m)
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

var (
	buildOnce sync.Once
	built     string // folder with the launcher and the stand-in for hachi-shim
	buildErr  error
)

// binaries returns a folder with the real launcher, built as it is released, and a server beside it.
func binaries(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		if built, buildErr = os.MkdirTemp("", "launch"); buildErr == nil {
			buildErr = errors.Join(
				gobuild(".", filepath.Join(built, "containerd-shim-hachi-v1"), "../../cmd/containerd-shim-hachi-v1"),
				gobuild(".", filepath.Join(built, "hachi-shim"), "./testdata/server"))
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

func gobuild(dir, out, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

const (
	testNamespace = "k8s.io"
	testAddress   = "/run/containerd/containerd.sock"
)

// rig is a containerd's state directory, as far as a launcher sees it.
type rig struct {
	t        testing.TB
	dir      string // bundles are <dir>/<id>
	launcher string
	sockets  string
	records  string
	env      []string
	extra    []*os.File
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := testenv.ShortDir(t)
	r := &rig{t: t, dir: dir, launcher: filepath.Join(binaries(t), "containerd-shim-hachi-v1"),
		sockets: filepath.Join(dir, ".s"), records: filepath.Join(dir, ".records")}
	if err := os.Mkdir(r.records, 0o700); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "FAKE_RECORDS="+r.records, "GOMAXPROCS=2", "MAX_SHIM_VERSION=2",
		"TTRPC_ADDRESS="+testAddress+".ttrpc", "GRPC_ADDRESS="+testAddress, "NAMESPACE="+testNamespace)
	t.Cleanup(r.killServers)
	return r
}

// bundle makes a container's bundle; an empty config means that there is no config.json.
func (r *rig) bundle(id, config string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, id)
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// result is what containerd sees of one execution.
type result struct {
	stdout, stderr string
	code           int
}

// run executes the launcher in a container's bundle.
func (r *rig) run(id string, stdin []byte, args ...string) result {
	return r.exec(id, stdin, append([]string{r.launcher}, args...)...)
}

func (r *rig) exec(id string, stdin []byte, argv ...string) result {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = filepath.Join(r.dir, id), r.env, r.extra
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Error(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// arguments are those of containerd's start.
func arguments(id, action string) []string {
	return []string{"-namespace", testNamespace, "-address", testAddress, "-publish-binary", "/usr/bin/containerd", "-id", id, action}
}

// serverRecord is what the stand-in server says about itself.
type serverRecord struct {
	PID, Session, Group int
	Args, Env           []string
	Dir                 string
	Fds, Spaces         map[string]string
	Loopback            string
	OOMScoreAdj         string
}

// servers waits until n servers have written their records, and a moment for one too many.
func (r *rig) servers(n int) []serverRecord {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if records := r.read(); len(records) >= n {
			if len(records) > n {
				r.t.Fatalf("%d servers were started, want %d", len(records), n)
			}
			return records
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d servers were started, want %d", len(r.read()), n)
		}
	}
}

func (r *rig) read() (all []serverRecord) {
	files, _ := filepath.Glob(filepath.Join(r.records, "*.json"))
	for _, file := range files {
		var s serverRecord
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// killServers ends the rig's servers: all processes that run with its records folder.
func (r *rig) killServers() {
	entries, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range entries {
		env, err := os.ReadFile(file)
		if err == nil && bytes.Contains(env, []byte("FAKE_RECORDS="+r.records+"\x00")) {
			var pid int
			if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				waitGone(r.t, pid)
			}
		}
	}
}

// waitGone waits until a process has ended, with all its threads; nobody may have reaped it yet.
func waitGone(t testing.TB, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); running(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state, _, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+2:]), " ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return state != "Z" && state != "X" || len(threads) > 1
}

// socketFiles lists what is left in the socket directory.
func (r *rig) socketFiles() []string {
	entries, err := os.ReadDir(r.sockets)
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (r *rig) file(id, name string) string {
	r.t.Helper()
	f, err := os.Open(filepath.Join(r.dir, id, name))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}
