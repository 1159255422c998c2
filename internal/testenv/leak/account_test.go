package leak_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
	"github.com/hachi-run/hachi/internal/testenv/leak"
)

func TestLink(t *testing.T) {
	testenv.NeedRoot(t)
	cgroup := bpfenv.Cgroup(t)
	s := leak.Scope{Marks: []string{filepath.Base(cgroup)}}
	before := leak.Take(s)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInetEgress, Program: program})
	if err != nil {
		t.Fatal(err)
	}
	want(t, before, s, "link", func() { l.Close() })

	// What outlives its cgroup is whoever's, and counts.
	if l, err = link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInetEgress, Program: program}); err != nil {
		t.Fatal(err)
	}
	bpfenv.RemoveCgroup(t, cgroup)
	want(t, before, leak.Scope{}, "link", func() { l.Close() })
}

func TestLedgerEntry(t *testing.T) {
	testenv.NeedRoot(t)
	s := leak.Scope{Marks: []string{fmt.Sprintf("hachi-leak-%d", os.Getpid())}, Trees: []string{"/run/hachi"}}
	before := leak.Take(s)
	if err := os.MkdirAll("/run/hachi/ledger", 0o700); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("/run/hachi/ledger/%d.json", os.Getpid())
	if err := os.WriteFile(file, []byte(`{"id":"`+s.Marks[0]+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, before, s, "ledger entry", func() { os.Remove(file) })
}
