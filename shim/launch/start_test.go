package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/hachi-run/hachi/internal/testenv"
)

// params are the bootstrap parameters of containerd 2.3 and later.
func (r *rig) params(id string) []byte {
	r.t.Helper()
	b, err := proto.Marshal(&bootapi.BootstrapParams{
		InstanceID: id, Namespace: testNamespace, ContainerdVersion: "2.4.2",
		ContainerdGrpcAddress: testAddress, ContainerdTtrpcAddress: testAddress + ".ttrpc",
		ContainerdBinary: "/usr/bin/containerd", SocketDir: &r.sockets,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// start starts a container as containerd 2.4 does and returns the server's address.
func (r *rig) start(id string) string {
	r.t.Helper()
	return r.address(r.run(id, r.params(id), arguments(id, "start")...))
}

func (r *rig) address(got result) string {
	r.t.Helper()
	var answer bootapi.BootstrapResult
	if err := proto.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != 0 || got.stderr != "" {
		r.t.Fatalf("start: %+v (%v)", got, err)
	}
	return answer.Address
}

// refused starts a container that cannot be started and returns the reason. Nothing may be left.
func (r *rig) refused(id string) string {
	r.t.Helper()
	got := r.run(id, r.params(id), arguments(id, "start")...)
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		r.t.Fatalf("want exit status 1 and one line on stderr, got %+v", got)
	}
	if left := r.socketFiles(); len(left) != 0 {
		r.t.Errorf("left beside the sockets: %v", left)
	}
	return strings.TrimSuffix(got.stderr, "\n")
}

func TestServerGetsNothingButItsSocket(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("lone", `{"process":{}}`)
	leak, w, err := os.Pipe() // as if containerd had leaked it into the launcher
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	defer w.Close()
	r.extra = []*os.File{leak, w}
	address := r.start("lone")
	s := r.servers(1)[0]

	socket := s.Fds["3"]
	if !strings.HasPrefix(socket, "socket:") {
		t.Errorf("descriptor 3 is %q, want a socket", socket)
	}
	null := "/dev/null"
	if diff := cmp.Diff(map[string]string{"0": null, "1": null, "2": null, "3": socket}, s.Fds); diff != "" {
		t.Errorf("the server's descriptors (-want +got):\n%s", diff)
	}
	if s.Dir != bundle {
		t.Errorf("working directory %s, want the bundle %s", s.Dir, bundle)
	}
	server := filepath.Join(filepath.Dir(r.launcher), "hachi-shim")
	want := []string{server, "-namespace", testNamespace, "-id", "lone", "-address", testAddress}
	if diff := cmp.Diff(want, s.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	env := append(slices.DeleteFunc(slices.Clone(r.env), func(v string) bool { return strings.HasPrefix(v, "GOMAXPROCS=") }), "GOMAXPROCS=1")
	if diff := cmp.Diff(env, s.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if s.Session != s.PID || s.Group != s.PID {
		t.Errorf("session %d and group %d of server %d, want its own", s.Session, s.Group, s.PID)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	if string(own) == "0\n" && s.OOMScoreAdj != "1\n" {
		t.Errorf("oom_score_adj %q under a containerd with 0, want 1", s.OOMScoreAdj)
	}
	for _, kind := range []string{"net", "ipc", "uts", "mnt", "pid", "user", "cgroup"} {
		if here, err := os.Readlink("/proc/self/ns/" + kind); err != nil || s.Spaces[kind] != here {
			t.Errorf("namespace %s is %s, want the host's %s (%v)", kind, s.Spaces[kind], here, err)
		}
	}

	path := strings.TrimPrefix(address, "unix://")
	if filepath.Dir(path) != r.sockets {
		t.Errorf("socket %s is not in %s", path, r.sockets)
	}
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode of the socket is %v", st.Mode())
	}
	if got := r.file("lone", "address"); got != address {
		t.Errorf("address file holds %q, want %q", got, address)
	}
	if left := r.socketFiles(); len(left) != 1 {
		t.Errorf("beside the sockets: %v, want one socket", left)
	}
}

func TestDebugIsPassedOn(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	r.start("one")
	if args := r.servers(1)[0].Args; args[len(args)-1] == "-debug" {
		t.Errorf("server got %v without anyone asking for -debug", args)
	}
	r.killServers()
	r.run("one", r.params("one"), append([]string{"--debug"}, arguments("one", "start")...)...)
	found := false
	for _, s := range r.servers(2) {
		found = found || s.Args[len(s.Args)-1] == "-debug"
	}
	if !found {
		t.Error("no server got -debug")
	}
}

func TestConcurrentStartsShareOneServer(t *testing.T) {
	r := newRig(t)
	const n = 16
	addresses := make([]string, n)
	ids := make([]string, n)
	for i := range n {
		ids[i] = "c" + string(rune('a'+i))
		r.bundle(ids[i], `{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}`)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			addresses[i] = r.run(ids[i], r.params(ids[i]), arguments(ids[i], "start")...).stdout
		})
	}
	wg.Wait()
	for i := range n {
		if addresses[i] == "" || addresses[i] != addresses[0] {
			t.Errorf("answer %d is %q, want %q", i, addresses[i], addresses[0])
		}
	}
	s := r.servers(1)[0]
	if got := s.Args[4]; got != "pod" {
		t.Errorf("-id %s, want the pod's", got)
	}
	if left := r.socketFiles(); len(left) != 1 {
		t.Errorf("beside the sockets: %v, want one socket", left)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	first := r.start("one")
	r.servers(1)
	r.killServers()
	if s, err := probe(strings.TrimPrefix(first, "unix://")); s != dead || err != nil {
		t.Fatalf("after the server was killed its socket is %v (%v), want dead", s, err)
	}
	if again := r.start("one"); again != first {
		t.Errorf("address changed from %s to %s", first, again)
	}
	r.servers(2)
	if s, err := probe(strings.TrimPrefix(first, "unix://")); s != live || err != nil {
		t.Errorf("after the second start the socket is %v (%v), want live", s, err)
	}
}

// Many launchers find the same dead socket; whoever removes it must never remove the new server's.
func TestStaleSocketRace(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	path := strings.TrimPrefix(r.start("one"), "unix://")
	for round := range 5 {
		r.servers(round + 1)
		r.killServers()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if i%4 == 3 {
					r.run("one", nil, arguments("one", "delete")...)
					return
				}
				r.run("one", r.params("one"), arguments("one", "start")...)
			})
		}
		wg.Wait()
		if s, err := probe(path); s != live || err != nil {
			t.Fatalf("round %d: the socket is %v (%v), want live", round, s, err)
		}
	}
}

func TestSomethingElseIsNotRemoved(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	path, err := SocketPath(r.sockets, testAddress, testNamespace, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(r.sockets, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.run("one", r.params("one"), arguments("one", "start")...)
	if want := "hachi: make socket: " + path + ": socket operation on non-socket\n"; got.code != 1 || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

func TestServerThatCannotRun(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	bin := filepath.Join(r.dir, ".bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	launcher := filepath.Join(bin, "containerd-shim-hachi-v1")
	if err := os.Link(r.launcher, launcher); err != nil {
		t.Fatal(err)
	}
	r.launcher = launcher
	server := filepath.Join(bin, "hachi-shim")
	for _, c := range []struct {
		name, content string
		want          string
	}{
		{"missing", "", "no such file or directory (install hachi-shim beside containerd-shim-hachi-v1 or on containerd's PATH)"},
		{"no program", "what?", "exec format error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.content != "" {
				if err := os.WriteFile(server, []byte(c.content), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := r.refused("one"), "hachi: start server: "+server+": "+c.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// A symlink on PATH leads to the folder where both binaries are.
func TestServerIsFoundThroughASymlink(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	link := filepath.Join(r.dir, "containerd-shim-hachi-v1")
	if err := os.Symlink(r.launcher, link); err != nil {
		t.Fatal(err)
	}
	r.launcher = link
	r.start("one")
	r.servers(1)
}

// A launcher that was copied somewhere else (an absolute runtime path) finds the server on PATH.
func TestServerIsFoundOnPath(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	r.env = append(r.env, "PATH=relative:"+t.TempDir()+":"+filepath.Dir(r.launcher))
	b, err := os.ReadFile(r.launcher)
	if err != nil {
		t.Fatal(err)
	}
	r.launcher = filepath.Join(t.TempDir(), "containerd-shim-hachi-v1")
	if err := os.WriteFile(r.launcher, b, 0o700); err != nil {
		t.Fatal(err)
	}
	r.start("one")
	r.servers(1)
}

func TestServerThatDiesAtOnceIsReported(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/false", []string{"false"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	for running(pid) {
		syscall.Syscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
	got := died("/opt/hachi-shim", pid)
	if want := "start server: /opt/hachi-shim: exited at once with status 1"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if err := died("/opt/hachi-shim", os.Getpid()); err != nil {
		t.Errorf("a process that runs: %v", err)
	}
}

// When containerd dies during start, nobody will ever know the server.
func TestServerThatNobodyWasToldAboutIsEnded(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{}`)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	defer write.Close()
	// The shell gives the launcher the broken pipe as its stdout.
	r.extra = []*os.File{write}
	got := r.exec("one", r.params("one"), append([]string{"/bin/sh", "-c", `exec "$0" "$@" >&3`, r.launcher}, arguments("one", "start")...)...)
	if want := "hachi: answer containerd: stdout: broken pipe\n"; got.code != 1 || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if left := r.socketFiles(); len(left) != 0 {
		t.Errorf("left beside the sockets: %v", left)
	}
	for _, s := range r.read() {
		if running(s.PID) {
			t.Errorf("server %d still runs", s.PID)
		}
	}
}

func TestSocketPath(t *testing.T) {
	a, err := SocketPath("", testAddress, "default", "web")
	if err != nil || filepath.Dir(a) != "/run/containerd/s" {
		t.Fatalf("default directory: %s, %v", a, err)
	}
	seen := map[string]bool{a: true}
	for _, other := range [][3]string{{"/x.sock", "default", "web"}, {testAddress, "k8s.io", "web"}, {testAddress, "default", "web2"}, {testAddress, "defaultw", "eb"}} {
		p, err := SocketPath("", other[0], other[1], other[2])
		if err != nil || seen[p] {
			t.Errorf("%v: %s is taken or %v", other, p, err)
		}
		seen[p] = true
	}
	longest := "/" + strings.Repeat("d", 73)
	if p, err := SocketPath(longest, testAddress, "default", "web"); err != nil || len(p) != 107 {
		t.Errorf("longest directory: %d bytes, %v", len(p), err)
	}
	_, err = SocketPath(longest+"d", testAddress, "default", "web")
	if err == nil || !strings.HasSuffix(err.Error(), "longer than 74 bytes (set a shorter socket_dir in containerd's config)") {
		t.Errorf("too long a directory: %v", err)
	}
}

func TestLockIsExclusiveAndLeavesNothing(t *testing.T) {
	socket := filepath.Join(testenv.ShortDir(t), "s", "one")
	var inside, rounds int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := lock(socket)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				if inside != 1 {
					t.Errorf("%d hold the lock", inside)
				}
				rounds++
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				l.unlock()
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(filepath.Dir(socket)); err != nil || len(entries) != 0 || rounds != 400 {
		t.Errorf("%d rounds, left: %v, %v", rounds, entries, err)
	}
}
