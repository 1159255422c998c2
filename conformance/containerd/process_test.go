package containerd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func sysSignal(s os.Signal) syscall.Signal { return s.(syscall.Signal) }

// TestTable is what a program in a container sees and what its caller sees of it.
func TestTable(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, c := range table {
			t.Run(c.name, func(t *testing.T) {
				if c.only != nil && !c.only(w.kind) {
					return
				}
				w.clean(t)
				c.run(t, w)
			})
		}
	})
}

type tableCase struct {
	name string
	// only says which kinds the case makes sense for; nil is all.
	only func(kind) bool
	run  func(t *testing.T, w *world)
}

var table = []tableCase{
	{"exit code", nil, exitCode},
	{"arguments", nil, arguments},
	{"environment", nil, environment},
	{"working directory", nil, workingDirectory},
	{"stdin to stdout", nil, stdinToStdout},
	{"two streams", nil, twoStreams},
	{"slow reader loses nothing", nil, slowReader},
	{"nobody reads", nil, nobodyReads},
	{"log file", nil, logFile},
	// runc's shim lets the program see no end of the streams before it ends it by a signal.
	{"logging program", kind.wasm, loggingProgram},
	{"SIGTERM", nil, sigterm},
	{"SIGKILL", nil, sigkill},
	{"SIGKILL while spinning", nil, sigkillSpin},
	{"kill after exit", nil, killAfterExit},
	{"kill before start", nil, killBeforeStart},
	{"delete rules", nil, deleteRules},
	// runc's shim sends the exit of a short program after its deletion now and then.
	{"events in order", kind.hachi, eventsInOrder},
	{"pause and resume", nil, pauseResume},
	{"pids", nil, pids},
	{"metrics", nil, metrics},
	{"update", nil, update},
	{"out of memory", nil, outOfMemory},
	{"mounts", nil, mounts},
	{"user", nil, user},
	{"exec", nil, execs},
	{"exec is killed alone", nil, execKilled},
	{"terminal", nil, terminal},
	{"trap", kind.wasm, trap},
	// With a Wasm layer the first argument is only a name.
	{"entrypoint missing", func(k kind) bool { return !k.wasm() }, entrypointMissing},
}

func exitCode(t *testing.T, w *world) {
	for _, want := range []int{0, 7, 255} {
		if got, _ := w.run(t, "exit", strconv.Itoa(want)); got != want {
			t.Errorf("exit %d: containerd saw %d", want, got)
		}
	}
}

func arguments(t *testing.T, w *world) {
	want := []string{"plain", "with space", "", "ünïcode蜂", "--flag=x", `"quoted"`}
	code, c := w.run(t, append([]string{"args"}, want...)...)
	if got := strings.Split(strings.TrimSuffix(c.stdout.String(), "\n"), "\n"); code != 0 || !cmp.Equal(want, got) {
		t.Errorf("code %d, %s", code, cmp.Diff(want, got))
	}
}

func environment(t *testing.T, w *world) {
	_, c := w.runWith(t, setup{args: []string{"env"}, spec: []oci.SpecOpts{oci.WithEnv([]string{"MINE=a=b c", "EMPTY="})}})
	for _, want := range []string{"MINE=a=b c", "EMPTY=", "FROM_IMAGE=yes"} {
		if !strings.Contains("\n"+c.stdout.String(), "\n"+want+"\n") {
			t.Errorf("%s is missing from\n%s", want, c.stdout.String())
		}
	}
	for _, line := range strings.Split(c.stdout.String(), "\n") {
		if strings.HasPrefix(line, "TTRPC_ADDRESS=") || strings.HasPrefix(line, "GRPC_ADDRESS=") {
			t.Errorf("the shim's own environment leaks into the container: %s", line)
		}
	}
}

func workingDirectory(t *testing.T, w *world) {
	dir := t.TempDir()
	mount := bind(dir, "/data", "rw")
	for _, want := range []string{"/", "/data"} {
		_, c := w.runWith(t, setup{args: []string{"cwd"}, spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{mount}), oci.WithProcessCwd(want)}})
		if got := strings.TrimSpace(c.stdout.String()); got != want {
			t.Errorf("want %s, the program is in %q (stderr %q)", want, got, c.stderr.String())
		}
	}
}

func stdinToStdout(t *testing.T, w *world) {
	in := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB
	c := w.startWith(t, setup{args: []string{"cat"}, stdin: bytes.NewReader(in)})
	// The client closes its end of the fifo; the shim holds one too until it is told.
	eventually(t, "echo of all input", func() error {
		if n := len(c.stdout.String()); n != len(in) {
			return &shortError{n, len(in)}
		}
		return nil
	})
	closeStdin(t, c)
	if code := c.wait(t); code != 0 || c.stdout.String() != string(in) {
		t.Errorf("code %d, %d bytes of %d, stderr %q", code, len(c.stdout.String()), len(in), c.stderr.String())
	}
}

func twoStreams(t *testing.T, w *world) {
	// More than once: a program that ends at once races with the client's opening of its streams.
	for range 25 {
		_, c := w.run(t, "both", "to stdout", "to stderr")
		if c.stdout.String() != "to stdout" || c.stderr.String() != "to stderr" {
			t.Fatalf("stdout %q, stderr %q", c.stdout.String(), c.stderr.String())
		}
		c.remove(t)
	}
}

// slowly takes at most 64 KiB a millisecond, far less than a program writes.
type slowly struct{ n, bad int }

func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Millisecond / (64 << 10))
	for i, b := range p {
		if b != byte(s.n+i) {
			s.bad++
		}
	}
	s.n += len(p)
	return len(p), nil
}

func slowReader(t *testing.T, w *world) {
	const size = 8 << 20
	var out slowly
	code, c := w.runWith(t, setup{args: []string{"bytes", strconv.Itoa(size)}, stdout: &out})
	if code != 0 || out.n != size || out.bad != 0 {
		t.Errorf("code %d, %d bytes of %d, %d of them wrong, stderr %q", code, out.n, size, out.bad, c.stderr.String())
	}
}

// never blocks until the test is over, as a client does that hangs.
type never struct{ release chan struct{} }

func (n never) Write(p []byte) (int, error) { <-n.release; return len(p), nil }

func nobodyReads(t *testing.T, w *world) {
	stuck := never{make(chan struct{})}
	c := w.startWith(t, setup{args: []string{"bytes", "1000000"}, stdout: stuck})
	time.Sleep(50 * time.Millisecond)
	c.kill(t, syscall.SIGKILL)
	select {
	case st := <-c.exit:
		if st.ExitCode() != 137 {
			t.Errorf("want exit code 137, got %d", st.ExitCode())
		}
	case <-time.After(patience):
		t.Error("a container whose output nobody reads cannot be killed")
	}
	close(stuck.release)
}

// logFile sends output to a file, as `ctr run --log-uri` and nerdctl do.
func logFile(t *testing.T, w *world) {
	log := t.TempDir() + "/log"
	c := w.startWith(t, setup{args: []string{"both", "out", "err"}, logTo: cio.LogFile(log)})
	c.wait(t)
	// runc's shim copies the streams on its own time.
	eventually(t, "both streams in the log", func() error {
		raw, err := os.ReadFile(log)
		if got := string(raw); err == nil && got != "outerr" && got != "errout" {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
}

func loggingProgram(t *testing.T, w *world) {
	program := guest.Built(t, guest.Linux, "shim/stdio/testdata/logger")
	log := t.TempDir() + "/log"
	c := w.startWith(t, setup{args: []string{"both", "out", "errors"}, logTo: cio.BinaryIO(program, map[string]string{"out": log})})
	if code := c.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	want := fmt.Sprintf("CONTAINER_ID=%s CONTAINER_NAMESPACE=%s\n3 \"out\" 6 \"errors\"\n", c.id, w.d.Mark())
	eventually(t, "both streams and the container's names in the log", func() error {
		raw, err := os.ReadFile(log)
		if got := string(raw); err == nil && !strings.HasSuffix(got, want) {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}

func trap(t *testing.T, w *world) {
	wasm := buildC(t, "samples/hostile/trap.c")
	w.importWasm(t, "example.test/trap:wasm", wasm)
	w.image = "example.test/trap:wasm"
	code, c := w.run(t)
	if code != 134 || !strings.Contains(c.stderr.String(), "unreachable") || !strings.Contains(c.stderr.String(), "wasm stack trace") {
		t.Errorf("want exit code 134 and a stack trace, got %d, stderr %q", code, c.stderr.String())
	}
}

func entrypointMissing(t *testing.T, w *world) {
	c, err := w.tryCreate(t, setup{spec: []oci.SpecOpts{oci.WithProcessArgs("/no/such/file")}})
	if err == nil {
		err = c.task.Start(w.ctx)
	}
	if err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("want an error that names the file, got %v", err)
	}
}

type shortError struct{ got, want int }

func (e *shortError) Error() string {
	return strconv.Itoa(e.got) + " of " + strconv.Itoa(e.want) + " bytes"
}

func bind(host, guest string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: host, Destination: guest, Options: append([]string{"rbind"}, options...)}
}

func mustWrite(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
