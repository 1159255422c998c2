package probe_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/hachi-run/hachi/internal/probe"
	"github.com/hachi-run/hachi/internal/testenv"
)

const asNobody = "HACHI_TEST_NOBODY"

func TestMain(m *testing.M) {
	if os.Getenv(asNobody) != "" {
		for _, r := range probe.All() {
			os.Stdout.WriteString(r.Name + "=" + r.Answer.String() + ": " + r.Why + "\n")
		}
		os.Exit(0)
	}
	os.Exit(testenv.Main(m))
}

// This machine runs the programs, as the tests of bpf/... show: the probes must agree.
func TestRootMayEverything(t *testing.T) {
	testenv.NeedRoot(t)
	if _, err := probe.Cgroup2(); err != nil {
		t.Skipf("needs cgroup2: %v", err)
	}
	for _, r := range probe.All() {
		if r.Answer != probe.Yes || r.Needs == "" || r.For == "" {
			t.Errorf("%+v, want yes", r)
		}
	}
}

func TestUserIsToldWhat(t *testing.T) {
	testenv.NeedRoot(t)
	// The test binary lies where nobody may look.
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = append(os.Environ(), asNobody+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"privilege=missing: this process has no CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN\n",
		// Whether the kernel has it cannot be told without the privilege to ask.
		"cgroup_skb=could not tell: the kernel lets root alone try",
		"cgroup_link=could not tell: ",
		"kernel=ok: \n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
