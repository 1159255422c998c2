package doctor

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	versions "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv"
)

// criFake and versionFake are containerd's edge: the two services that the doctor asks. The real one is asked in
// conformance/operator.
type criFake struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	config string
}

func (c criFake) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Info: map[string]string{"config": c.config}}, nil
}

type versionFake struct {
	versions.UnimplementedVersionServer
	version string
}

func (v versionFake) Version(context.Context, *emptypb.Empty) (*versions.VersionResponse, error) {
	return &versions.VersionResponse{Version: v.version}, nil
}

// listen serves what s registers on a socket, as this process.
func listen(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	socket := filepath.Join(testenv.ShortDir(t), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return socket
}

func TestDaemon(t *testing.T) {
	socket := listen(t, func(s *grpc.Server) {
		versions.RegisterVersionServer(s, versionFake{version: "v2.4.2"})
		runtimeapi.RegisterRuntimeServiceServer(s, criFake{config: `{"containerd":{"runtimes":{}}}`})
	})
	d := inspectDaemon(t.Context(), "unix://"+socket)
	expect(t, "containerd", d.socket, OK, forPods, "v2.4.2", socket)
	expect(t, "CRI", d.cri, OK, forKubernetes, "none has runtime_type")
	// The listener is this process, so that its PATH is this one's.
	if want := filepath.SplitList(os.Getenv("PATH")); len(want) > 0 && seen(d.dirs[0]) != filepath.Clean(want[0]) {
		t.Errorf("it looks first in %s, want %s", seen(d.dirs[0]), want[0])
	}
}

func TestDaemonWithoutCRI(t *testing.T) {
	socket := listen(t, func(s *grpc.Server) { versions.RegisterVersionServer(s, versionFake{version: "v1.7.35"}) })
	d := inspectDaemon(t.Context(), socket)
	expect(t, "containerd", d.socket, OK, forPods, "v1.7.35")
	expect(t, "CRI", d.cri, OK, forKubernetes, "CRI is off")
}

func TestDaemonThatIsNone(t *testing.T) {
	dir := testenv.ShortDir(t)
	expect(t, "no socket", inspectDaemon(t.Context(), filepath.Join(dir, "none.sock")).socket, Missing, forPods, "containerd 1.7 or 2.x", "none.sock")

	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	expect(t, "nobody listens", inspectDaemon(t.Context(), stale).socket, Missing, forPods, "nobody listens")

	other := listen(t, func(*grpc.Server) {})
	expect(t, "somebody else", inspectDaemon(t.Context(), other).socket, Unknown, forPods, "does not answer")
}

func TestVersions(t *testing.T) {
	expect(t, "1.7", judgeVersion("s", "1.7.35"), OK, forPods)
	expect(t, "2", judgeVersion("s", "v2.0.0-rc.1"), OK, forPods)
	expect(t, "1.6", judgeVersion("s", "v1.6.36"), Missing, forPods, "1.7")
	expect(t, "odd", judgeVersion("s", "main"), Unknown, forPods)
}

// TestRuntime looks for hachi in directories with more and more of it.
func TestRuntime(t *testing.T) {
	bin, other := t.TempDir(), t.TempDir()
	d := &daemon{dirs: []string{other, bin}}
	put := func(dir, name string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "nothing", d.runtime(), Missing, forPods, launcher, other+":"+bin)
	put(bin, launcher, 0o644)
	expect(t, "not executable", d.runtime(), Missing, forPods, launcher)
	if err := os.Chmod(filepath.Join(bin, launcher), 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, "alone", d.runtime(), Missing, forPods, "hachi-shim beside")
	put(bin, "hachi-shim", 0o755)
	expect(t, "without engine", d.runtime(), Missing, forPods, "hachi-engine beside")
	put(bin, "hachi-engine", 0o755)
	expect(t, "without Linux", d.runtime(), Missing, forPods, "hachi-linux beside")
	put(bin, "hachi-linux", 0o755)
	expect(t, "all", d.runtime(), OK, forPods, filepath.Join(bin, launcher))

	// A link on PATH is followed to the programs beside its target.
	if err := os.Symlink(filepath.Join(bin, launcher), filepath.Join(other, launcher)); err != nil {
		t.Fatal(err)
	}
	expect(t, "a link", d.runtime(), OK, forPods, other)
	expect(t, "unknown PATH", (&daemon{dirsErr: os.ErrPermission}).runtime(), Unknown, forPods)
	expect(t, "runc", d.program("runc", forLinux, "runc"), Missing, forLinux, "runc")
}

func TestSeen(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/12/root/usr/bin": "/usr/bin", "/proc/12/root/rootfs/bin": "/rootfs/bin", "/usr/bin": "/usr/bin", "/proc/12/cwd": "/proc/12/cwd",
	} {
		if got := seen(path); got != want {
			t.Errorf("%s is shown as %s, want %s", path, got, want)
		}
	}
}

func TestHandlers(t *testing.T) {
	config := func(runtimes string) string { return `{"containerd":{"runtimes":{` + runtimes + `}}}` }
	ours := `"hachi":{"runtimeType":"io.containerd.hachi.v1","PodAnnotations":["hachi.run/*"]}`
	runc := `"runc":{"runtimeType":"io.containerd.runc.v2"}`
	expect(t, "ours", judgeHandlers(config(ours+","+runc)), OK, forKubernetes, "hachi")
	expect(t, "none", judgeHandlers(config(runc)), OK, forKubernetes, "RuntimeClass")
	expect(t, "mute", judgeHandlers(config(strings.Replace(ours, `["hachi.run/*"]`, "null", 1))), Missing, forKubernetes, "pod_annotations")
	expect(t, "broken", judgeHandlers("{"), Unknown, forKubernetes)
}
