package probe

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	probing "github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// first is BPF_F_BEFORE of <linux/bpf.h> without a program to come before: in front of all others.
const first = 1 << 3

// Kernel versions below are those of the kernel's history; MinKernel has all of them but the last.
func features() []question {
	program := func(t ebpf.ProgramType) func() error { return func() error { return probing.HaveProgramType(t) } }
	mapType := func(t ebpf.MapType) func() error { return func() error { return probing.HaveMapType(t) } }
	helper := func(t ebpf.ProgramType, h asm.BuiltinFunc) func() error {
		return func() error { return probing.HaveProgramHelper(t, h) }
	}
	return []question{
		{"packet programs", "accounting", "Linux 4.10 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSKB)},
		{"connection programs", "accounting, flows", "Linux 4.13 (CONFIG_CGROUP_BPF)", program(ebpf.SockOps)},
		{"links to cgroups", everything, "Linux 5.7", func() error { return attachTo(0) }},
		{"counters per cgroup", "accounting", "Linux 4.20, shared by programs since 5.9", mapType(ebpf.PerCPUCGroupStorage)},
		{"counters in connection programs", "accounting", "Linux 4.19", helper(ebpf.SockOps, asm.FnGetLocalStorage)},
		{"storage per socket", "flows, redirection", "Linux 5.2", mapType(ebpf.SkStorage)},
		{"ring buffer", "flows", "Linux 5.8", mapType(ebpf.RingBuf)},
		{"iterators", "flows", "Linux 5.8, and the kernel's type information", iterator},
		{"connect programs", "redirection", "Linux 4.17 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSockAddr)},
		{"chosen connect errors", "redirection", "Linux 5.18", helper(ebpf.CGroupSockAddr, asm.FnSetRetval)},
		{"socket option programs", "redirection", "Linux 5.3 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSockopt)},
		{"listener lookup programs", "redirection", "Linux 5.9 (CONFIG_INET)", program(ebpf.SkLookup)},
		{"order among programs", "nothing yet", "a kernel newer than 6.12", func() error { return attachTo(first) }},
	}
}

// attachTo asks for a link to a descriptor that is none: a kernel that knows links, and the flags, gets as far as
// looking at it.
func attachTo(flags uint32) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	attr := struct{ program, target, attach, flags uint32 }{uint32(p.FD()), ^uint32(0), uint32(ebpf.AttachCGroupInetEgress), flags}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case unix.EBADF:
		return nil
	case unix.EINVAL:
		return absent("bpf(BPF_LINK_CREATE): %w", errno)
	}
	return fmt.Errorf("bpf(BPF_LINK_CREATE): %w", errno)
}

// iterator loads a program that would run for each socket of a storage map.
func iterator() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_sk_storage_map", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		return err
	}
	return p.Close()
}
