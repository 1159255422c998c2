package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		in, dir string
		systemd bool
	}{
		{"/default/redis", "/default/redis", false},
		{"kubepods/pod1/c1", "/kubepods/pod1/c1", false},
		{"/kubepods/../../etc", "/etc", false},
		{"/a:b/c:d:e", "/a:b/c:d:e", false},
		{"system.slice:cri:abc", "/system.slice/cri-abc.scope", true},
		{":cri:abc", "/system.slice/cri-abc.scope", true},
		{"-.slice::abc", "/abc.scope", true},
		{
			"kubepods-burstable-pod1234_5.slice:cri-containerd:abc",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234_5.slice/cri-containerd-abc.scope", true,
		},
	} {
		dir, systemd, err := parsePath(tt.in)
		if err != nil || dir != tt.dir || systemd != tt.systemd {
			t.Errorf("%q: %q %v, %v; want %q %v", tt.in, dir, systemd, err, tt.dir, tt.systemd)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/a/b", "a.slice:b:c", "..", "-.slice::x", "a-b.slice:p:n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dir, _, err := parsePath(s)
		if err != nil {
			return
		}
		if !strings.HasPrefix(dir, "/") || dir == "/" || strings.Contains(dir+"/", "/../") || strings.Contains(dir, "//") {
			t.Errorf("%q names %q", s, dir)
		}
	})
}

func TestParseHost(t *testing.T) {
	const v1 = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
40 31 0:37 /docker/x /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:37 / /run/other\040place rw - cgroup cgroup rw,memory
`
	const v2 = "42 31 0:38 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	tree := func(name string, controllers ...string) hierarchy {
		return hierarchy{dir: "/sys/fs/cgroup/" + name, prefix: "/", controllers: controllers}
	}
	systemd := hierarchy{dir: "/sys/fs/cgroup/systemd", prefix: "/docker/x", name: "systemd"}
	for _, tt := range []struct {
		name, info string
		want       *host
	}{
		{"none", "bad line\n1 2 - x\n", &host{}},
		{"v1", v1, &host{v1: []hierarchy{tree("cpu,cpuacct", "cpu", "cpuacct"), tree("freezer", "freezer"), systemd, tree("memory", "memory")}}},
		{"hybrid", v1 + v2, &host{v1: []hierarchy{tree("cpu,cpuacct", "cpu", "cpuacct"), systemd, tree("memory", "memory")}, v2: "/sys/fs/cgroup/unified"}},
		{"v2", v2, &host{v2: "/sys/fs/cgroup/unified", unified: true}},
	} {
		got := parseHost(tt.info)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(host{}, hierarchy{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := systemd.local("/docker/x/a"); got != "/sys/fs/cgroup/systemd/a" {
		t.Errorf("local path %q", got)
	}
	if got := systemd.home("3:memory:/m\n1:name=systemd:/docker/x/y\n0::/\n"); got != "/sys/fs/cgroup/systemd/y" {
		t.Errorf("home %q", got)
	}
	if got := tree("m", "cpu", "cpuacct").home("3:cpu,cpuacct:/m\n"); got != "/sys/fs/cgroup/m/m" {
		t.Errorf("home of joint tree %q", got)
	}
}
