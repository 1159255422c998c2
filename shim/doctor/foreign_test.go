package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestForeign attaches another agent's program, with and without room for others.
func TestForeign(t *testing.T) {
	testenv.NeedRoot(t)
	root := readMounts("/proc/self/mountinfo").cgroup2Dir()
	if root == "" {
		t.Skip("needs a cgroup2 file system: mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	dir := filepath.Join(root, fmt.Sprintf("hachi-doctor-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	cgroup, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	expect(t, "nobody", foreign(dir), OK, forAccounting)
	for _, tc := range []struct {
		flags uint32
		want  Status
	}{{0, Missing}, {1, Missing}, {2, OK}} { // alone, BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI
		o := link.RawAttachProgramOptions{Target: int(cgroup.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress, Flags: tc.flags}
		if err := link.RawAttachProgram(o); err != nil {
			t.Fatal(err)
		}
		words := []string{"cgroups"}
		if tc.want == Missing {
			words = []string{"egress at " + dir, "BPF_F_ALLOW_MULTI"}
		}
		expect(t, fmt.Sprintf("flags %d", tc.flags), foreign(dir), tc.want, forAccounting, words...)
		if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(cgroup.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress}); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "no tree", foreign(""), Unknown, forAccounting)
}
