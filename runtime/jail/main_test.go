package jail

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childEnv = "HACHI_JAIL_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "jailed":
		os.Exit(childMain())
	case "middle":
		os.Exit(middleMain())
	}
	before := openFDs()
	mounts := readFile("/proc/self/mountinfo")
	code := m.Run()
	if exeDir != "" {
		os.RemoveAll(exeDir)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if after := openFDs(); !slices.Equal(before, after) {
		fmt.Fprintf(os.Stderr, "descriptors leaked: before %v, after %v\n", before, after)
		code = 1
	}
	if after := readFile("/proc/self/mountinfo"); after != mounts {
		fmt.Fprintf(os.Stderr, "mounts left on the host:\n%s\nbefore:\n%s", after, mounts)
		code = 1
	}
	os.Exit(code)
}

// openFDs names what is open, without the runtime's own epoll descriptors, which come with the first use.
func openFDs() []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var open []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" || filepath.Base(filepath.Dir(to)) == "fd" {
			continue
		}
		open = append(open, to)
	}
	slices.Sort(open)
	return open
}

func readFile(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

var (
	exeOnce sync.Once
	exeDir  string
	exeErr  error
)

// childExe is this test as a binary that anyone may execute and that is not linked with cgo, as Enter demands.
func childExe(t testing.TB) string {
	t.Helper()
	exeOnce.Do(func() {
		if exeDir, exeErr = os.MkdirTemp("", "jail-test-"); exeErr != nil {
			return
		}
		exe := filepath.Join(exeDir, "jail.test")
		if exeErr = os.Chmod(exeDir, 0o755); exeErr != nil {
			return
		}
		if cgoEnabled {
			build := exec.Command("go", "test", "-c", "-o", exe, ".")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				exeErr = fmt.Errorf("build child without cgo: %w\n%s", err, out)
			}
			return
		}
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			exeErr = err
			return
		}
		exeErr = os.WriteFile(exe, self, 0o755)
	})
	if exeErr != nil {
		t.Fatal(exeErr)
	}
	return filepath.Join(exeDir, "jail.test")
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: rerun as root")
	}
}

// request is what the test asks of the jailed child, one JSON value after the other on its stdin.
type request struct {
	Enter    *Config  `json:"enter,omitempty"`
	Compiler bool     `json:"compiler,omitempty"`
	Do       string   `json:"do,omitempty"`
	Args     []string `json:"args,omitempty"`
}

type reply struct {
	Err   string        `json:"err,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"`
	Out   string        `json:"out,omitempty"`
}

func (r reply) Error() string { return r.Err }

// childMain is the jailed process: it enters as told and then does what it is asked to.
func childMain() int {
	for range 6 { // threads that exist before Enter and must be jailed too
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var req request
		if err := in.Decode(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return 0
			}
			return 3
		}
		var (
			res string
			err error
		)
		switch {
		case req.Compiler:
			err = Compiler()
		case req.Enter != nil:
			err = Enter(*req.Enter)
		default:
			res, err = probes[req.Do](req.Args)
		}
		rep := reply{Out: res}
		if err != nil {
			rep.Err = err.Error()
			errors.As(err, &rep.Errno)
		}
		if err := out.Encode(rep); err != nil {
			return 4
		}
	}
}

// child is the test's side of a jailed process.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

// spawn starts a child with its own mount namespace, not yet jailed.
func spawn(t testing.TB, attr *syscall.SysProcAttr, files ...*os.File) *child {
	t.Helper()
	cmd := exec.Command(childExe(t))
	cmd.Env = []string{childEnv + "=jailed"}
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	cmd.ExtraFiles = files
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
		cmd.Wait()
	})
	return &child{t: t, cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(out)}
}

func (c *child) send(req request) reply {
	c.t.Helper()
	if err := c.in.Encode(req); err != nil {
		c.t.Fatalf("send %+v: %v", req, err)
	}
	var rep reply
	if err := c.out.Decode(&rep); err != nil {
		c.t.Fatalf("answer to %+v: %v", req, err)
	}
	return rep
}

// do runs a probe and returns its error, nil when it succeeded.
func (c *child) do(probe string, args ...string) reply {
	c.t.Helper()
	return c.send(request{Do: probe, Args: args})
}

// must is do for what has to work.
func (c *child) must(probe string, args ...string) string {
	c.t.Helper()
	rep := c.do(probe, args...)
	if rep.Err != "" {
		c.t.Errorf("%s %v: %s; want success", probe, args, rep.Err)
	}
	return rep.Out
}

// refuse is do for what must fail with one of the errnos.
func (c *child) refuse(probe, arg string, want ...syscall.Errno) {
	c.t.Helper()
	rep := c.do(probe, arg)
	if rep.Err == "" {
		c.t.Errorf("%s %s: succeeded (%q); want %v", probe, arg, rep.Out, want)
	} else if !slices.Contains(want, rep.Errno) {
		c.t.Errorf("%s %s: %s; want %v", probe, arg, rep.Err, want)
	}
}

// jailed starts a child and has it enter c.
func jailed(t testing.TB, c Config, attr *syscall.SysProcAttr, files ...*os.File) *child {
	t.Helper()
	ch := spawn(t, attr, files...)
	if rep := ch.send(request{Enter: &c}); rep.Err != "" {
		t.Fatalf("enter %+v: %s", c, rep.Err)
	}
	return ch
}

func newMounts() *syscall.SysProcAttr { return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} }

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
