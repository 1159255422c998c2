package doctor

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// hook is a type of program or map of which hachi's eBPF programs are made. The kernel is asked by loading a minimal one:
// no file says whether a distribution or a lockdown keeps it from us.
type hook struct {
	name, need string
	// since is the first kernel that has it.
	since string
	try   func() error
}

func program(t ebpf.ProgramType) func() error {
	return func() error { return features.HaveProgramType(t) }
}
func table(t ebpf.MapType) func() error { return func() error { return features.HaveMapType(t) } }

var bpfHooks = []hook{
	{"cgroup_skb", forAccounting, "4.10", program(ebpf.CGroupSKB)},
	{"sock_ops", forAccounting, "4.13", program(ebpf.SockOps)},
	{"percpu_cgroup_storage", forAccounting, "4.20", table(ebpf.PerCPUCGroupStorage)},
	{"ring_buffer", forFlows, "5.8", table(ebpf.RingBuf)},
	{"socket_storage", forFlows, "5.2", table(ebpf.SkStorage)},
	{"socket_iterator", forFlows, "5.9", iterator},
	{"cgroup_connect", forRedirect, "4.17", program(ebpf.CGroupSockAddr)},
	{"cgroup_sockopt", forRedirect, "5.3", program(ebpf.CGroupSockopt)},
	{"sk_lookup", forRedirect, "5.9", program(ebpf.SkLookup)},
}

// iterator loads a program that walks a map of sockets. Types of tracing programs differ in whether they are allowed, so
// this one is tried itself. It parses the kernel's BTF.
func iterator() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_sk_storage_map", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

// Features are the findings about eBPF: what a pod goes without where one is not OK.
func Features() []Finding { return hooks() }

func hooks() []Finding {
	out := make([]Finding, len(bpfHooks))
	for k, h := range bpfHooks {
		out[k] = judgeHook(h, h.try())
	}
	return out
}

func judgeHook(h hook, err error) Finding {
	switch {
	case err == nil:
		return ok(h.name, h.need, "since Linux %s", h.since)
	case errors.Is(err, ebpf.ErrNotSupported):
		return missing(h.name, h.need, fmt.Sprintf("Linux %s or later, built with eBPF and BTF", h.since), "not in this kernel")
	case errors.Is(err, unix.EPERM):
		return unknown(h.name, h.need, "the kernel does not let us try: run as root; if this is root, a container or a lockdown is in the way")
	}
	return unknown(h.name, h.need, "%v", err)
}
