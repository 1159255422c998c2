package sandbox

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/shim/taskpb"
)

func TestParseConfigReadsWhatCRIWrites(t *testing.T) {
	body, err := proto.Marshal(&cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "web", Uid: "u"}, Hostname: "web-0", LogDirectory: "/var/log",
		DnsConfig: &cri.DNSConfig{Servers: []string{"10.0.0.1"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/kubepods/pod1",
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}},
			Sysctls:         map[string]string{"net.ipv4.ping_group_range": "0 1"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConfig(&taskpb.Any{TypeUrl: configURL, Value: body})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Hostname: "web-0", CgroupParent: "/kubepods/pod1", HostNetwork: true, Servers: []string{"10.0.0.1"}, Sysctls: map[string]string{"net.ipv4.ping_group_range": "0 1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestParseConfigRefusesOtherOptions(t *testing.T) {
	for name, o := range map[string]*taskpb.Any{
		"another type": {TypeUrl: "containerd.runc.v1.Options"},
		"truncated":    {TypeUrl: configURL, Value: []byte{8<<3 | 2, 5, 1}},
	} {
		if _, err := ParseConfig(o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v, want InvalidArgument", name, err)
		}
	}
	if c, err := ParseConfig(nil); err != nil || c.Hostname != "" {
		t.Errorf("no options: got %+v, %v", c, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	seed, _ := proto.Marshal(&cri.PodSandboxConfig{Hostname: "h", Linux: &cri.LinuxPodSandboxConfig{Sysctls: map[string]string{"a": "b"}}})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := ParseConfig(&taskpb.Any{TypeUrl: configURL, Value: body})
		var want cri.PodSandboxConfig
		if proto.Unmarshal(body, &want) != nil || err != nil {
			return
		}
		if got.CgroupParent != want.GetLinux().GetCgroupParent() {
			t.Fatalf("cgroup parent %q, and protobuf reads %q", got.CgroupParent, want.GetLinux().GetCgroupParent())
		}
	})
}
