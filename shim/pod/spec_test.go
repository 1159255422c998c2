package pod

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/image"
)

func TestCgroupsPath(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "/ns/id",
		"/kubepods/pod1/c":         "/kubepods/pod1/c",
		"pods/c":                   "/pods/c",
		"kube.slice:cri:c":         "kube.slice:cri:c",
		"system.slice:containerd:": "system.slice:containerd:",
	} {
		if got := cgroupsPath(&specs.Spec{Linux: &specs.Linux{CgroupsPath: in}}, "ns", "id"); got != want {
			t.Errorf("cgroupsPath %q: got %q, want %q", in, got, want)
		}
	}
}

func TestRootSpecFollowsTheNamespaces(t *testing.T) {
	spec := func(ns ...specs.LinuxNamespace) *specs.Spec {
		return &specs.Spec{Root: &specs.Root{Path: "rootfs", Readonly: true}, Linux: &specs.Linux{Namespaces: ns}}
	}
	r, err := newRootSpec(spec(specs.LinuxNamespace{Type: specs.PIDNamespace}), "/bundle", []specs.Mount{{Type: "bind", Source: "/s"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.cloneflags != syscall.CLONE_NEWNS|syscall.CLONE_NEWPID || r.root.Path != "/bundle/rootfs" || !r.root.ReadOnly || len(r.root.Rootfs) != 1 {
		t.Errorf("got %+v", r)
	}
	if r, err = newRootSpec(spec(specs.LinuxNamespace{Type: specs.PIDNamespace, Path: "/proc/1/ns/pid"}), "/b", nil); err != nil || r.cloneflags != syscall.CLONE_NEWNS {
		t.Errorf("a pid namespace by path: got flags %#x, %v; want no new one", r.cloneflags, err)
	}
	if _, err = newRootSpec(spec(specs.LinuxNamespace{Type: specs.UserNamespace}), "/b", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("user namespace: got %v, want InvalidArgument", err)
	}
}

func TestAnnotationsMayShortenTheGraceOnly(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 10 * time.Second, "3s": 3 * time.Second, "1h": 10 * time.Second, "0s": 0, "-1s": 10 * time.Second, "soon": 10 * time.Second} {
		if got := grace(map[string]string{graceAnnotation: value}, 10*time.Second); got != want {
			t.Errorf("%s=%q: got %v, want %v", graceAnnotation, value, got, want)
		}
	}
}

func TestBadAnnotationsAreReportedTogether(t *testing.T) {
	err := checkAnnotations(map[string]string{graceAnnotation: "soon", listenAnnotation: "http"})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), graceAnnotation) || !strings.Contains(err.Error(), listenAnnotation) {
		t.Errorf("got %v, want both mistakes", err)
	}
	if err := checkAnnotations(map[string]string{graceAnnotation: "1s", listenAnnotation: "8080", "other": "x"}); err != nil {
		t.Errorf("good annotations: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string][]string{
		"":                             nil,
		"none":                         nil,
		"8080":                         {":8080"},
		"127.0.0.1:80, tcp://[::1]:81": {"127.0.0.1:80", "[::1]:81"},
		":9":                           {":9"},
	} {
		got, err := addresses(in)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("addresses %q: %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"0", "65536", "http", "host:80", "80,", "-1", "1.2.3.4"} {
		if got, err := addresses(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("addresses %q: got %v, %v; want InvalidArgument", in, got, err)
		}
	}
}

func TestListenOpensWhatIsAskedFor(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	probe.Close()
	listeners, err := listen(map[string]string{listenAnnotation: address}, []image.Port{{Number: 1, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(listeners)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("nobody listens where the annotation says: %v", err)
	}
	conn.Close()
	_, port, _ := net.SplitHostPort(address)
	if len(listeners) != 1 || listeners[0].Name != "tcp-"+port {
		t.Errorf("got %+v, want one named tcp-%s: the annotation replaces the image's ports", listeners, port)
	}
	if _, err := listen(map[string]string{listenAnnotation: address}, nil); err == nil || !strings.Contains(err.Error(), listenAnnotation) {
		t.Errorf("a port in use: got %v, want an error that names the annotation", err)
	}
	none, err := listen(map[string]string{listenAnnotation: "none"}, []image.Port{{Number: 1, Protocol: "tcp"}})
	if err != nil || len(none) != 0 {
		t.Errorf("none: got %v, %v", none, err)
	}
	udp, err := listen(nil, []image.Port{{Number: 53, Protocol: "udp"}})
	if err != nil || len(udp) != 0 {
		t.Errorf("a UDP port: got %v, %v; want no TCP listener for it", udp, err)
	}
}
