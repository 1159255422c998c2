package containerd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/images"
)

// wasmOnly runs f under every version, for Wasm containers, with a leak check around it.
func wasmOnly(t *testing.T, f func(t *testing.T, w *world)) {
	forEach(t, func(t *testing.T, w *world) {
		if w.wasm() && w.hachi() {
			f(t, w)
		}
	})
}

// with returns the world with another image: one whose Wasm layer is module.
func (w *world) with(t *testing.T, module []byte) (*world, images.Layout) {
	t.Helper()
	l := images.Layouts(module)[0]
	l.Ref = fmt.Sprintf("example.test/bad:%d", serial.Add(1))
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, images.Archive(l.Ref, l.Target, l.Blobs), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.d.Ctr(w.ctx, "-n", w.d.Mark(), "image", "import", "--all-platforms", "--no-unpack", archive); err != nil {
		t.Fatal(err)
	}
	other := *w
	other.image, other.entry = l.Ref, "/app.wasm"
	return &other, l
}

// outcome runs a container as far as it gets: the error of its creation or start, or its exit code and stderr.
func (w *world) outcome(t *testing.T, s setup) (code int, words string) {
	t.Helper()
	c, err := w.tryCreate(t, s)
	if err == nil {
		err = c.task.Start(w.ctx)
	}
	if err != nil {
		return -1, err.Error()
	}
	code = c.wait(t)
	return code, c.stderr.String()
}

// module builds a Wasm module from sections, each an id and its content.
func module(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(sections, nil)...)
}

func section(id byte, content ...byte) []byte {
	return append(append([]byte{id}, leb(uint64(len(content)))...), content...)
}

// leb is n in unsigned LEB128.
func leb(n uint64) []byte {
	var out []byte
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(out, byte(n))
}

// Sections of a module whose function 0 is _start, without parameters or results.
var (
	types    = section(1, 1, 0x60, 0, 0)
	function = section(3, 1, 0)
	exports  = section(7, append([]byte{1, 6}, "_start\x00\x00"...)...)
)

// code is a code section with one function of that body.
func codeOf(body []byte) []byte {
	return section(10, append(append([]byte{1}, leb(uint64(len(body)))...), body...)...)
}

// TestHostileModules runs modules that are broken or mean harm. Each is refused with words that tell the user what to look
// for, or ends by itself, and leaves nothing.
func TestHostileModules(t *testing.T) {
	good, err := os.ReadFile(guest.Built(t, guest.WASI, "conformance/containerd/probe"))
	if err != nil {
		t.Fatal(err)
	}
	small, err := os.ReadFile(guest.Built(t, guest.WASI, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	nop := codeOf([]byte{0, 0x0b})
	deep := append(append([]byte{0}, bytes.Repeat([]byte{0x02, 0x40}, 200_000)...), bytes.Repeat([]byte{0x0b}, 200_001)...)
	imports := section(2, append([]byte{1, 3}, "env\x04evil\x00\x00"...)...)
	cases := []struct {
		name   string
		module []byte
		// code is -1 when it must not start.
		code int
		says string
	}{
		{"truncated in the middle", good[:len(good)/2], -1, "app.wasm"},
		{"truncated in the magic", []byte("\x00as"), -1, "not a WebAssembly module"},
		{"only the magic", []byte("\x00asm"), -1, "build it again"},
		{"empty", nil, -1, "0 bytes"},
		{"text", []byte("#include <stdio.h>\n"), -1, "not a WebAssembly module"},
		{"component", append([]byte("\x00asm\x0d\x00\x01\x00"), small[8:]...), -1, "component"},
		{"a future version", append([]byte("\x00asm\x02\x00\x00\x00"), small[8:]...), -1, "version"},
		{"no _start", module(types, function, nop), -1, "_start"},
		{"nothing at all", module(), -1, "_start"},
		{"_start that takes arguments", module(section(1, 1, 0x60, 1, 0x7f, 0), function, exports, nop), -1, "_start"},
		{"section longer than the file", append(module(types, function, exports), 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 1), -1, "app.wasm"},
		{"four billion functions", module(types, section(3, append(leb(1<<32-1), 0)...), exports, nop), -1, "app.wasm"},
		{"four billion locals", module(types, function, exports, codeOf(append(append([]byte{1}, leb(1<<32-1)...), 0x7f, 0x0b))), -1, "app.wasm"},
		{"imports that nobody has", module(types, imports, function, section(7, append([]byte{1, 6}, "_start\x00\x01"...)...), nop), -1, "env"},
		{"200 000 nested blocks", module(types, function, exports, codeOf(deep)), -1, "split the function"},
		{"4 GiB of memory", module(types, function, section(5, append([]byte{1, 0}, leb(65536)...)...), exports, nop), 0, ""},
		{"memory beyond 4 GiB", module(types, function, section(5, append([]byte{1, 0}, leb(65537)...)...), exports, nop), -1, "memory"},
		{"a start function that traps", module(types, function, section(7, append([]byte{1, 6}, "_start\x00\x00"...)...), section(8, 0), codeOf([]byte{0, 0x00, 0x0b})), 134, "unreachable"},
		{"recursion without end", module(types, function, exports, codeOf([]byte{0, 0x10, 0, 0x0b})), 134, "stack"},
		{"a good one, after all of these", small, 0, ""},
	}
	wasmOnly(t, func(t *testing.T, w *world) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				w, _ := w.with(t, c.module)
				code, words := w.outcome(t, setup{})
				if code != c.code || !strings.Contains(words, c.says) || len(words) > 4<<10 {
					t.Errorf("want %d and %q, got %d and %.600q", c.code, c.says, code, words)
				}
			})
		}
	})
}

// TestMissingContent damages what containerd stored behind its back.
func TestMissingContent(t *testing.T) {
	small, err := os.ReadFile(guest.Built(t, guest.WASI, "samples/hello-c/hello.c"))
	if err != nil {
		t.Fatal(err)
	}
	wasmOnly(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			name   string
			damage func(blob string) error
			says   string
		}{
			{"layer is gone", os.Remove, "pull or import it again"},
			{"layer is cut off", func(blob string) error { return os.Truncate(blob, 100) }, "pull it again"},
			{"layer is empty", func(blob string) error { return os.Truncate(blob, 0) }, "pull it again"},
			{"layer has a flipped bit", flip, "pull it again"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				// A custom section makes each case's module one that no store has seen.
				unique := append(bytes.Clone(small), section(0, append([]byte{4}, fmt.Sprintf("uniq%d %d", time.Now().UnixNano(), serial.Add(1))...)...)...)
				w, _ := w.with(t, unique)
				blob := filepath.Join(filepath.Dir(w.d.State()), "root", "io.containerd.content.v1.content", "blobs", "sha256", strings.TrimPrefix(images.Digest(unique), "sha256:"))
				if err := os.Chmod(blob, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := c.damage(blob); err != nil {
					t.Fatal(err)
				}
				if code, words := w.outcome(t, setup{}); code != -1 || !strings.Contains(words, c.says) {
					t.Errorf("want a refusal that says %q, got %d, %q", c.says, code, words)
				}
			})
		}
	})
}

// flip changes one bit in the middle of a file.
func flip(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	at := len(raw) / 2
	for raw[at] == 0 { // what lies between the parts of a file is nobody's
		at++
	}
	raw[at] ^= 1
	return os.WriteFile(name, raw, 0o600)
}

// TestHostileSpecs gives config.json values that are wrong or mean harm.
func TestHostileSpecs(t *testing.T) {
	change := func(f func(*specs.Spec)) oci.SpecOpts {
		return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error { f(s); return nil }
	}
	mount := func(m specs.Mount) oci.SpecOpts { return oci.WithMounts([]specs.Mount{m}) }
	rlimit := func(kind string, n uint64) oci.SpecOpts {
		return change(func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: kind, Soft: n, Hard: n}} })
	}
	outside := t.TempDir()
	volume := t.TempDir()
	for link, to := range map[string]string{"evil": outside, "up": "../../../../../../../.." + outside, "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	into := func(target string) oci.SpecOpts {
		return oci.WithMounts([]specs.Mount{bind(volume, "/data", "rw"), {Destination: target, Type: "tmpfs", Source: "tmpfs"}})
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	wasmOnly(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			name string
			spec oci.SpecOpts
			code int
			says string
		}{
			{"unknown mount type", mount(specs.Mount{Destination: "/m", Type: "nfs", Source: "server:/x"}), -1, "nfs"},
			{"mount of nothing", mount(specs.Mount{Destination: "/m", Type: "bind", Source: "/no/such/dir", Options: []string{"rbind"}}), -1, "/no/such/dir"},
			{"relative mount target", mount(specs.Mount{Destination: "m/x", Type: "tmpfs", Source: "tmpfs"}), 3, ""},
			{"mount target above the root", mount(specs.Mount{Destination: "/../../m", Type: "tmpfs", Source: "tmpfs"}), 3, ""},
			{"mount target through a link out", into("/data/evil/x"), 3, ""},
			{"mount target through a link up", into("/data/up/x"), 3, ""},
			{"mount target through a loop", into("/data/loop/x"), -1, "/data/loop"},
			{"mount with an option of no kernel", mount(specs.Mount{Destination: "/m", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=lots"}}), -1, "/m"},
			{"rlimit beyond the kernel's", rlimit("RLIMIT_NOFILE", 1<<63), -1, "RLIMIT_NOFILE"},
			{"unknown rlimit", rlimit("RLIMIT_HONEY", 1), -1, "RLIMIT_HONEY"},
			{"user namespace", change(func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			}), -1, "user namespaces are not supported"},
			{"annotation for another port than a number", oci.WithAnnotations(map[string]string{"hachi.run/listen": "http"}), -1, "not a port"},
			{"annotation with a time of no unit", oci.WithAnnotations(map[string]string{"hachi.run/stop-grace": "10"}), -1, "write 3s"},
			{"no arguments", change(func(s *specs.Spec) { s.Process.Args = nil }), -1, "command"},
			{"an empty argument", change(func(s *specs.Spec) { s.Process.Args = []string{""} }), 64, ""},
			{"a NUL in an argument", change(func(s *specs.Spec) { s.Process.Args = []string{"/probe.wasm", "a\x00b"} }), -1, "NUL"},
			{"sysctl of the node", change(func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/evil"} }), -1, "kernel.core_pattern"},
			{"cgroup above its own", oci.WithCgroup("/../../../escape-" + w.d.Mark()), 3, ""},
			{"cgroup of everybody", oci.WithCgroup("/.."), -1, "set linux.cgroupsPath"},
			{"not a slice", oci.WithCgroup("honey:x:y"), -1, "slice"},
			{"one byte of memory", oci.WithMemoryLimit(1), -1, "give the container 16Mi"},
			{"one process", oci.WithPidsLimit(1), -1, "pids limit"},
			{"three threads", oci.WithPidsLimit(3), -1, "pids limit"},
			{"no CPU time at all", oci.WithCPUCFS(1, 1), -1, "cpu"},
			{"a working directory that is not there", oci.WithProcessCwd("/no/such/dir"), 3, ""},
			{"nobody's user", change(func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 }), -1, "4294967295"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				code, words := w.outcome(t, setup{args: []string{"exit", "3"}, spec: []oci.SpecOpts{c.spec}})
				if code != c.code || !strings.Contains(words, c.says) {
					t.Errorf("want %d and %q, got %d and %.600q", c.code, c.says, code, words)
				}
			})
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("a mount's target was made outside of the root: %v, %v", entries, err)
		}
		if now, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || !bytes.Equal(now, pattern) {
			t.Errorf("the node's core_pattern was %q and is %q, %v", pattern, now, err)
		}
	})
}

// TestDeathInEveryState kills the engine, or the shim, where the table of faults does not.
func TestDeathInEveryState(t *testing.T) {
	wasmOnly(t, func(t *testing.T, w *world) {
		for _, c := range []tableCase{
			{"engine is killed while paused", nil, pausedEngineKilled},
			{"engine is killed during an exec", nil, engineKilledDuringExec},
			{"engine of an exec is killed", nil, execEngineKilled},
			{"shim is killed while paused", nil, pausedShimKilled},
			{"shim is killed during an exec", nil, shimKilledDuringExec},
			{"shim is killed after the exit", nil, shimKilledAfterExit},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				c.run(t, w)
			})
		}
	})
}

func pausedEngineKilled(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	if err := c.task.Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(c.task.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// cgroup v1 keeps a frozen process from dying until it is thawed.
	if st, err := c.task.Status(w.ctx); err == nil && st.Status == "paused" {
		_ = c.task.Resume(w.ctx)
	}
	if got := c.wait(t); got != 137 {
		t.Errorf("want exit code 137, got %d", got)
	}
}

func engineKilledDuringExec(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	_, out, exit := c.exec(t, "e", nil, "spin")
	out.await(t, "ready")
	if err := syscall.Kill(int(c.task.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := c.wait(t); got != 137 {
		t.Errorf("container: want exit code 137, got %d", got)
	}
	if got := code(t, exit); got != 137 {
		t.Errorf("exec: want exit code 137, got %d", got)
	}
}

func execEngineKilled(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	p, out, exit := c.exec(t, "e", nil, "ready")
	out.await(t, "ready")
	if err := syscall.Kill(int(p.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := code(t, exit); got != 137 {
		t.Errorf("exec: want exit code 137, got %d", got)
	}
	if _, _, exit := c.exec(t, "f", nil, "exit", "5"); code(t, exit) != 5 {
		t.Error("the container takes no exec after one was killed")
	}
}

func pausedShimKilled(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	pid := c.task.Pid()
	if err := c.task.Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	c.killShim(t)
	until("/tasks/exit")
	c.gone(t, pid)
	c.task.IO().Cancel()
	c.remove(t)
}

func shimKilledDuringExec(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	p, out, _ := c.exec(t, "e", nil, "spin")
	out.await(t, "ready")
	pid := c.task.Pid()
	c.killShim(t)
	until("/tasks/exit")
	c.gone(t, pid)
	c.gone(t, p.Pid())
	p.IO().Cancel()
	c.task.IO().Cancel()
	c.remove(t)
}

// shimKilledAfterExit: the exit code that the shim saw is not lost with it.
func shimKilledAfterExit(t *testing.T, w *world) {
	c := w.start(t, "exit", "7")
	if got := c.wait(t); got != 7 {
		t.Errorf("want exit code 7, got %d", got)
	}
	c.killShim(t)
	eventually(t, "burial of the task", func() error {
		if _, err := c.c.Task(w.ctx, nil); err == nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	c.remove(t)
}
