package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/hachi-run/hachi/internal/testenv"
)

// leave writes what a server leaves in a bundle.
func (r *rig) leave(id string, l Leftovers) {
	r.t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, id, LeftoversFile), b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// delete deletes a container as containerd does and returns the answer and the warnings.
func (r *rig) delete(id string) (*task.DeleteResponse, string) {
	r.t.Helper()
	args := append([]string{"-bundle", filepath.Join(r.dir, id)}, arguments(id, "delete")...)
	got := r.run(id, nil, args...)
	var answer task.DeleteResponse
	if err := proto.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != 0 {
		r.t.Fatalf("delete: %+v (%v)", got, err)
	}
	return &answer, got.stderr
}

// engine starts a process that only SIGKILL ends.
func engine(t *testing.T) (*exec.Cmd, Process) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `trap "" TERM INT HUP; echo ready; while :; do sleep 600; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its sleep too
		_ = cmd.Wait()
	})
	start, err := ProcessStart(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, Process{cmd.Process.Pid, start}
}

// cgroups makes a cgroup in each hierarchy that matters on this host and puts a process into them.
func cgroups(t *testing.T, pid int) []string {
	t.Helper()
	var dirs []string
	for _, top := range []string{"/sys/fs/cgroup/freezer", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(top, fmt.Sprintf("hachi-launch-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		t.Fatal("no cgroup hierarchy found")
	}
	return dirs
}

func TestDeleteAfterACleanExit(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	before := time.Now().Truncate(time.Second)
	for range 2 { // it may be called again
		answer, warnings := r.delete("one")
		if answer.Pid != 0 || answer.ExitStatus != 137 || answer.ExitedAt.AsTime().Before(before) || answer.ExitedAt.AsTime().After(time.Now()) {
			t.Errorf("got %v", answer)
		}
		if warnings != "" {
			t.Errorf("warnings: %s", warnings)
		}
	}
}

func TestDeleteRepeatsTheExit(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	r.leave("one", Leftovers{PIDs: []Process{{1 << 22, 7}}, Exit: &Exit{Status: 3, At: at.UnixNano()}})
	answer, warnings := r.delete("one")
	if answer.Pid != 1<<22 || answer.ExitStatus != 3 || !answer.ExitedAt.AsTime().Equal(at) || warnings != "" {
		t.Errorf("got %v, warnings %q", answer, warnings)
	}
}

func TestDeleteEndsAnEngine(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.bundle("one", `{}`)
	cmd, process := engine(t)
	dirs := cgroups(t, process.PID)
	// Frozen, as a paused container is; and a child cgroup that someone made.
	for file, word := range map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"} {
		for _, dir := range dirs {
			writeControl(filepath.Join(dir, file), word)
		}
	}
	if err := os.Mkdir(filepath.Join(dirs[0], "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.leave("one", Leftovers{PIDs: []Process{process}, Cgroups: dirs})

	start := time.Now()
	answer, warnings := r.delete("one")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if int(answer.Pid) != process.PID || answer.ExitStatus != 137 || warnings != "" {
		t.Errorf("got %v, warnings %q", answer, warnings)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the engine ended with %v", err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", dir, err)
		}
	}
	if answer, warnings := r.delete("one"); int(answer.Pid) != process.PID || warnings != "" {
		t.Errorf("second delete: %v, warnings %q", answer, warnings)
	}
}

// The process that the file names is gone, and its cgroup holds one that the file does not know.
func TestDeleteEndsWhatIsInTheCgroup(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.bundle("one", `{}`)
	cmd, process := engine(t)
	dirs := cgroups(t, process.PID)
	r.leave("one", Leftovers{Cgroups: dirs})
	if _, warnings := r.delete("one"); warnings != "" {
		t.Errorf("warnings: %s", warnings)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the engine ended with %v", err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", dir, err)
		}
	}
}

func TestDeleteSparesOthers(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.bundle("one", `{}`)
	_, process := engine(t)
	own := filepath.Join(r.dir, "one", "rootfs")
	r.leave("one", Leftovers{
		// The same number, but a process that started at another time; init; process groups.
		PIDs:    []Process{{process.PID, process.Start + 1}, {1, 0}, {0, 0}, {-process.PID, process.Start}, {1 << 30, 1}},
		Cgroups: []string{own, "/", "relative", "/sys/fs/cgroup/../cgroup/freezer", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup", "/nonexistent/x"},
	})
	answer, warnings := r.delete("one")
	if answer.ExitStatus != 137 {
		t.Errorf("got %v", answer)
	}
	if !running(process.PID) {
		t.Fatal("a process was killed that only shares the number")
	}
	for _, dir := range []string{own, "/", "relative", "/sys/fs/cgroup/../cgroup/freezer", "/sys/fs/cgroup"} {
		if !strings.Contains(warnings, "hachi: remove cgroup: "+dir+": not a c") {
			t.Errorf("no warning about %s in:\n%s", dir, warnings)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}

func TestDeleteRemovesAnAbandonedSocket(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	path := strings.TrimPrefix(r.start("one"), "unix://")
	r.servers(1)
	if _, warnings := r.delete("one"); warnings != "" {
		t.Errorf("warnings: %s", warnings)
	}
	if s, err := probe(path); s != live {
		t.Fatalf("delete removed a socket in use (%v, %v)", s, err)
	}
	r.killServers()
	other := filepath.Join(r.sockets, "other")
	fd, err := listen(other)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	r.leave("one", Leftovers{Sockets: []string{other, filepath.Join(r.sockets, "third")}})
	if err := os.WriteFile(filepath.Join(r.sockets, "third.lock"), nil, 0o600); err != nil { // its launcher was killed
		t.Fatal(err)
	}
	for range 2 {
		if _, warnings := r.delete("one"); warnings != "" {
			t.Errorf("warnings: %s", warnings)
		}
		if left := r.socketFiles(); len(left) != 0 {
			t.Errorf("left beside the sockets: %v", left)
		}
	}
}

func TestDeleteUnmountsTheRoot(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	rootfs := filepath.Join(r.bundle("one", `{}`), "rootfs")
	for range 2 {
		if err := syscall.Mount("none", rootfs, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unmount(rootfs) })
	if _, warnings := r.delete("one"); warnings != "" {
		t.Errorf("warnings: %s", warnings)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(rootfs)) {
		t.Errorf("%s is still mounted (%v)", rootfs, err)
	}
}

func TestDeleteOfALinuxContainerIsTheServers(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("one", `{}`)
	if err := os.WriteFile(filepath.Join(bundle, "runtime"), []byte("runc"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-bundle", bundle}, arguments("one", "delete")...)
	got := r.run("one", nil, args...)
	if want := fmt.Sprint("deleted by the server: ", args); got != (result{want, "", 0}) {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestDeleteWithBrokenLeftovers(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("one", `{}`)
	if err := os.WriteFile(filepath.Join(bundle, LeftoversFile), []byte(`{"pids":[{"pid":"x"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	answer, warnings := r.delete("one")
	want := "hachi: read left-overs: " + bundle + "/hachi.json: offset 16: not a JSON value\n"
	if answer.ExitStatus != 137 || warnings != want {
		t.Errorf("got %v, warnings %q, want %q", answer, warnings, want)
	}
}

func TestLeftoversRoundTrip(t *testing.T) {
	want := Leftovers{PIDs: []Process{{5, 1 << 60}, {6, 0}}, Cgroups: []string{"/a", "/b\"\n"}, Sockets: []string{"/s"}, Exit: &Exit{137, 1 << 61}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseLeftovers(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProcessStart(t *testing.T) {
	if _, err := ProcessStart(1 << 30); err == nil {
		t.Error("a process that cannot be has a start time")
	}
	// A name that tries to look like the end of the field.
	dir := testenv.ShortDir(t)
	odd := filepath.Join(dir, "x) R 1 2 (3")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sleep, odd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	self, err := ProcessStart(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if start, err := ProcessStart(cmd.Process.Pid); err != nil || start < self || start > self+100*60*60 {
		t.Errorf("started at %d, we at %d, %v", start, self, err)
	}
}

// FuzzLeftovers reads what it accepted once more after encoding/json wrote it, as the server would.
func FuzzLeftovers(f *testing.F) {
	f.Add([]byte(`{"pids":[{"pid":1,"start":2}],"cgroups":["/a"],"sockets":["/s"],"exit":{"status":1,"at":2}}`))
	f.Add([]byte(`{"pids":null,"cgroups":[null],"exit":null,"x":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseLeftovers(b)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("accepted %q", b)
		}
		for _, p := range got.PIDs {
			if p.Start > 1<<63-1 {
				return // a negative number, which no process has
			}
		}
		written, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseLeftovers(written)
		if err != nil {
			t.Fatalf("%q: %v", written, err)
		}
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q (-first +again):\n%s", b, diff)
		}
	})
}
