package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/probe"
	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// expect compares a finding; words must be in what it says.
func expect(t *testing.T, what string, got Finding, status Status, need string, words ...string) {
	t.Helper()
	if got.Status != status || got.For != need {
		t.Errorf("%s: %+v, want %s for %s", what, got, status, need)
	}
	for _, w := range words {
		if !strings.Contains(got.Detail+" "+got.Needs, w) {
			t.Errorf("%s: %+v says nothing of %q", what, got, w)
		}
	}
	if got.Status == Missing && got.Needs == "" || got.Status != Missing && got.Needs != "" {
		t.Errorf("%s: %s, and needs %q", what, got.Status, got.Needs)
	}
}

func TestKernel(t *testing.T) {
	expect(t, "new", judgeKernel("6.18.44-fc"), OK, forPods, "6.18.44-fc")
	expect(t, "6.1", judgeKernel("6.1.0-28-cloud-amd64"), OK, forPods)
	expect(t, "6.0", judgeKernel("6.0.9"), Missing, forAccounting, "Linux 6.1")
	expect(t, "5.14", judgeKernel("5.14.0-503.el9"), Missing, forAccounting, "pods run without")
	expect(t, "old", judgeKernel("4.19.0"), Missing, forPods, "5.14")
	expect(t, "odd", judgeKernel("next"), Unknown, forPods)
}

func TestPrivileges(t *testing.T) {
	all := uint64(1)<<41 - 1
	expect(t, "root", judgePrivileges(0, all), OK, forPods)
	expect(t, "a user", judgePrivileges(1000, 0), Missing, forPods, "root", "1000")
	expect(t, "root without BPF", judgePrivileges(0, all&^(1<<unix.CAP_BPF)), Missing, forAccounting, "CAP_BPF")
	expect(t, "root in a container", judgePrivileges(0, 0), Missing, forPods, "CAP_SYS_ADMIN", "CAP_NET_ADMIN")
}

func TestArtifacts(t *testing.T) {
	dir := t.TempDir()
	expect(t, "none", artifacts(filepath.Join(dir, "none")), OK, forPods, "first start")
	if os.Geteuid() != 0 {
		expect(t, "a user's", artifacts(dir), Missing, forPods, "chown")
		return
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, "good", artifacts(dir), OK, forPods)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	expect(t, "open to all", artifacts(dir), Missing, forPods, "chmod 0700")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "a file", artifacts(file), Missing, forPods, "directory")
}

// mountLine is a line of mountinfo.
func mountLine(dir, kind, options string) string {
	return fmt.Sprintf("30 23 0:26 / %s rw,relatime shared:4 - %s none %s\n", dir, kind, options)
}

func TestMounts(t *testing.T) {
	v1 := mountLine("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct") + mountLine("/sys/fs/cgroup/memory", "cgroup", "rw,memory") +
		mountLine("/sys/fs/cgroup/pids", "cgroup", "rw,pids") + mountLine("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd")
	v2 := mountLine("/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate")
	bpf := mountLine("/sys/fs/bpf", "bpf", "rw,mode=700")

	hybrid := parseMounts(v1 + v2 + bpf + "\nnonsense\n")
	expect(t, "hybrid", hybrid.controllers(), OK, forPods, "hybrid", "memory")
	expect(t, "hybrid", hybrid.cgroup2(), OK, forAccounting, "/sys/fs/cgroup/unified")
	expect(t, "hybrid", hybrid.bpffs(), OK, forAccounting)

	old := parseMounts(v1)
	expect(t, "v1", old.controllers(), OK, forPods, "v1")
	expect(t, "v1", old.cgroup2(), Missing, forAccounting, "mount -t cgroup2")

	few := parseMounts(mountLine("/sys/fs/cgroup/cpu", "cgroup", "rw,cpu") + mountLine("/sys/fs/cgroup/pids", "cgroup", "rw,pids"))
	expect(t, "v1 without memory", few.controllers(), Missing, forPods, "without memory", "mount -t cgroup -o memory memory /sys/fs/cgroup/memory")

	expect(t, "nothing", parseMounts("").controllers(), Missing, forPods, "mount -t cgroup2")

	// A cgroup2 tree alone has its controllers in a file.
	dir := t.TempDir()
	unified := parseMounts(mountLine(dir, "cgroup2", "rw"))
	expect(t, "v2 that is none", unified.controllers(), Unknown, forPods, "cgroup.controllers")
	for content, status := range map[string]Status{"cpuset cpu io memory pids\n": OK, "cpu pids\n": Missing} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, "v2 with "+content, unified.controllers(), status, forPods, "v2")
	}
	unreadable := readMounts(filepath.Join(dir, "none"))
	expect(t, "unreadable", unreadable.controllers(), Unknown, forPods)
	expect(t, "unreadable", unreadable.cgroup2(), Unknown, forAccounting)
	expect(t, "unreadable", unreadable.bpffs(), Unknown, forAccounting)
}

func TestHooks(t *testing.T) {
	result := func(a probe.Answer, why string) Finding {
		return finding(probe.Result{Name: "sk_lookup", Answer: a, For: "redirection", Needs: "Linux 5.9", Why: why})
	}
	expect(t, "there", result(probe.Yes, ""), OK, "redirection", "Linux 5.9")
	expect(t, "not there", result(probe.No, "not supported"), Missing, "redirection", "Linux 5.9", "not supported")
	expect(t, "not allowed", result(probe.Unknown, "no luck"), Unknown, "redirection", "no luck")
	if os.Geteuid() != 0 {
		return
	}
	// Here they are all there: the bpf packages' tests load them.
	for _, f := range Features() {
		expect(t, f.Name, f, OK, f.For)
	}
}

func TestBTF(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vmlinux")
	expect(t, "none", btf(file), Missing, forAccounting, "CONFIG_DEBUG_INFO_BTF")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "there", btf(file), OK, forAccounting)
}

func TestLacking(t *testing.T) {
	if Lacking([]Finding{{Status: OK}, {Status: Unknown}}) || !Lacking([]Finding{{Status: OK}, {Status: Missing}}) {
		t.Error("only what is missing is lacking")
	}
}
