package bpfenv

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Drop loses every nth packet that comes in for a cgroup's sockets, until the test ends or stop is called.
func Drop(t testing.TB, cgroup string, n int32) (stop func()) {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatalf("make a map: %v", err)
	}
	defer seen.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, seen.FD(), 0),
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
			asm.Add.Imm(asm.R2, 1),
			asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
			asm.Mod.Imm(asm.R2, n),
			asm.JEq.Imm(asm.R2, 0, "drop"),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("drop"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("load a program that drops: %v", err)
	}
	defer p.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInetIngress, Program: p})
	if err != nil {
		t.Fatalf("attach a program that drops: %v", err)
	}
	stop = func() { l.Close() }
	t.Cleanup(stop)
	return stop
}
