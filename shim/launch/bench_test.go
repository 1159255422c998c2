package launch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkExec shows what executing anything costs here: subtract it from the launcher's own figures.
func BenchmarkExec(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// benchRig is a rig on tmpfs, as containerd's state directory is.
func benchRig(b *testing.B) *rig {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		b.Setenv("TMPDIR", "/dev/shm")
	}
	return newRig(b)
}

// BenchmarkVersion is the launcher's start and end without work.
func BenchmarkVersion(b *testing.B) {
	r := benchRig(b)
	for b.Loop() {
		r.run("", nil, "-v")
	}
}

// BenchmarkStart starts a server for every pod, the server's own start not included.
func BenchmarkStart(b *testing.B) { benchmarkStart(b, `{"process":{}}`) }

// BenchmarkStartInNewNamespaces is a lone container of ctr run.
func BenchmarkStartInNewNamespaces(b *testing.B) {
	benchmarkStart(b, `{"linux":{"namespaces":[{"type":"ipc"},{"type":"uts"}]}}`)
}

func benchmarkStart(b *testing.B, config string) {
	r := benchRig(b)
	r.bundle("one", config)
	r.env = append(r.env, "FAKE_EXIT=0")
	params := r.params("one")
	for b.Loop() {
		if got := r.run("one", params, arguments("one", "start")...); got.code != 0 && !strings.Contains(got.stderr, "at once") {
			b.Fatalf("%+v", got)
		}
	}
}

// BenchmarkStartInRunningPod is a container that joins a live server.
func BenchmarkStartInRunningPod(b *testing.B) {
	r := benchRig(b)
	r.bundle("one", `{}`)
	params := r.params("one")
	r.start("one")
	for b.Loop() {
		r.run("one", params, arguments("one", "start")...)
	}
}

// BenchmarkDelete is the delete after every container that ended well.
func BenchmarkDelete(b *testing.B) {
	r := benchRig(b)
	r.bundle("one", `{}`)
	r.leave("one", Leftovers{PIDs: []Process{{1 << 22, 1}}, Cgroups: []string{"/sys/fs/cgroup/hachi/one"}})
	for b.Loop() {
		r.delete("one")
	}
}

// BenchmarkWork is the launcher's own work for a container that joins a pod, without being executed.
func BenchmarkWork(b *testing.B) {
	r := benchRig(b)
	annotations := `"io.kubernetes.cri.sandbox-id":"pod"`
	bundle := r.bundle("one", `{"process":{"env":[`+strings.Repeat(`"SERVICE_PORT=tcp://10.0.0.1:80",`, 500)+`""]},"annotations":{`+annotations+`}}`)
	path, err := SocketPath(r.sockets, testAddress, testNamespace, "pod")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = syscall.Listen(fd, 1<<20) // nobody accepts; a full queue counts as live too
	}
	if err != nil {
		b.Fatal(err)
	}
	defer syscall.Close(fd)
	params := r.params("one")
	args := append([]string{"-bundle", bundle}, arguments("one", "start")...)
	for b.Loop() {
		var out bytes.Buffer
		l := &Launcher{Args: args, Env: r.env, Stdin: bytes.NewReader(params), Stdout: &out, Stderr: &out}
		if err := l.Do(); err != nil {
			b.Fatal(err)
		}
	}
}
