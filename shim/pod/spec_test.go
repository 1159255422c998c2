package pod

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/wire"
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

func TestListenersAreWhatIsAskedFor(t *testing.T) {
	exposed := []image.Port{{Number: 53, Protocol: "udp"}, {Number: 80, Protocol: "tcp"}}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []wire.Listener
	}{
		"the image's ports":                        {nil, []wire.Listener{{Address: ":80", Name: "tcp-80"}}},
		"the annotation's in place of the image's": {map[string]string{listenAnnotation: "[::1]:81,82"}, []wire.Listener{{Address: "[::1]:81", Name: "tcp-81"}, {Address: ":82", Name: "tcp-82"}}},
		"none": {map[string]string{listenAnnotation: "none"}, nil},
	} {
		got, err := listeners(c.annotations, exposed)
		if err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}
