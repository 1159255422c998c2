package probe

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	probing "github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// Kernel versions below are those of the kernel's history; MinKernel has all of them.
func features() []question {
	program := func(t ebpf.ProgramType) func() error { return func() error { return probing.HaveProgramType(t) } }
	mapType := func(t ebpf.MapType) func() error { return func() error { return probing.HaveMapType(t) } }
	helper := func(t ebpf.ProgramType, h asm.BuiltinFunc) func() error {
		return func() error { return probing.HaveProgramHelper(t, h) }
	}
	return []question{
		{"cgroup_skb", "accounting", "Linux 4.10 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSKB)},
		{"sock_ops", "accounting, flows", "Linux 4.13 (CONFIG_CGROUP_BPF)", program(ebpf.SockOps)},
		{"cgroup_link", everything, "Linux 5.7", cgroupLink},
		{"percpu_cgroup_storage", "accounting", "Linux 4.20, shared by programs since 5.9", mapType(ebpf.PerCPUCGroupStorage)},
		{"sock_ops_storage", "accounting", "Linux 4.19", helper(ebpf.SockOps, asm.FnGetLocalStorage)},
		{"socket_storage", "flows, redirection", "Linux 5.2", mapType(ebpf.SkStorage)},
		{"ring_buffer", "flows", "Linux 5.8", mapType(ebpf.RingBuf)},
		{"socket_iterator", "flows", "Linux 5.8, and the kernel's type information", iterator},
		{"cgroup_connect", "redirection", "Linux 4.17 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSockAddr)},
		{"connect_errno", "redirection", "Linux 5.18", helper(ebpf.CGroupSockAddr, asm.FnSetRetval)},
		{"cgroup_sockopt", "redirection", "Linux 5.3 (CONFIG_CGROUP_BPF)", program(ebpf.CGroupSockopt)},
		{"sk_lookup", "redirection", "Linux 5.9 (CONFIG_INET)", program(ebpf.SkLookup)},
	}
}

// cgroupLink asks for a link to a descriptor that is none: a kernel that knows links gets as far as looking at it.
func cgroupLink() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	attr := struct{ program, target, attach, flags uint32 }{uint32(p.FD()), ^uint32(0), uint32(ebpf.AttachCGroupInetEgress), 0}
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
