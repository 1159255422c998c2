package jail

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter is assembled here and not by go-seccomp-bpf: that one builds name tables of six architectures
// when the process starts, answers a foreign architecture with the default action instead of a kill, and cannot mask
// an argument before it compares.

const (
	// Offsets in struct seccomp_data: number, architecture, instruction pointer, six 64-bit arguments.
	offNumber = 0
	offArch   = 4
	offArgs   = 16

	// x32 calls carry this bit; their numbers mean other things.
	x32Bit = 0x40000000

	// Numbers above this (mseal, Linux 6.10) did not exist when the list was made: ENOSYS is the truth.
	lastKnown = 462

	retAllow = unix.SECCOMP_RET_ALLOW
	retKill  = unix.SECCOMP_RET_KILL_PROCESS
	retErrno = unix.SECCOMP_RET_ERRNO
)

// A guard lets one call through when its condition holds; nil holds always. Several guards for one call
// are alternatives.
type guard struct {
	number uint32
	cond   condition
}

// A condition is a conjunction of tests.
type condition []test

// A test holds when the masked 32-bit half of an argument is one of want. System calls take ints there, so
// the kernel ignores the upper half, except where equalsHigh looks at it.
type test struct {
	offset uint32
	mask   uint32
	want   []uint32
}

func maskedAny(arg int, mask uint32, want ...uint32) condition {
	return condition{{offset: uint32(offArgs + 8*arg), mask: mask, want: want}}
}

func masked(arg int, mask, want uint32) condition { return maskedAny(arg, mask, want) }

func equals(arg int, want ...uint32) condition { return maskedAny(arg, 0xffffffff, want...) }

func equalsHigh(arg int, want uint32) condition {
	return condition{{offset: uint32(offArgs + 8*arg + 4), mask: 0xffffffff, want: []uint32{want}}}
}

func all(conds ...condition) condition {
	var out condition
	for _, c := range conds {
		out = append(out, c...)
	}
	return out
}

// filterCalls sets no_new_privs and the filter on every thread.
func filterCalls(calls callSet) error {
	prog, err := assemble(calls)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	// TSYNC spreads the bit with the filter.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// SPEC_ALLOW: kernels before 5.16 would slow the guest's code by turning off store bypass, as all
	// later ones no longer do; an engine shares its process with nobody whose memory it could guess.
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: install filter: %w (needs a kernel with CONFIG_SECCOMP_FILTER)", errno)
	}
	if tid != 0 {
		return fmt.Errorf("seccomp: install filter: thread %d has another filter", tid)
	}
	return nil
}

// Decisions about a call; above them stand the indexes of its guards.
const (
	deny = iota
	allow
	absent
	guarded
)

// A leaf decides about the numbers from first up to the next leaf.
type leaf struct {
	first    uint32
	decision int
}

// assemble makes the filter: a search tree over the call numbers whose leaves decide. A chain of comparisons
// would cost 0.2 ms more when it is installed, because the kernel tries every number then to learn which are always
// allowed; for those it later runs no filter at all (Linux 5.11).
func assemble(calls callSet) ([]unix.SockFilter, error) {
	guards := calls.checked()
	p := program{guards: guards, at: maxProgram}
	p.search(leaves(calls, guards))
	if auditArch == unix.AUDIT_ARCH_X86_64 {
		p.ret(retKill)
		p.jump(unix.BPF_JSET, x32Bit, 0, 1)
	}
	p.load(offNumber)
	p.ret(retKill)
	p.jump(unix.BPF_JEQ, auditArch, 1, 0)
	p.load(offArch)
	if p.full {
		return nil, fmt.Errorf("filter is longer than %d instructions", maxProgram)
	}
	return p.code[p.at:], nil
}

func leaves(calls callSet, guards []guard) []leaf {
	var decisions [lastKnown + 1]int
	for _, n := range calls.plain {
		decisions[n] = allow
	}
	for _, n := range calls.absent {
		decisions[n] = absent
	}
	for i, g := range slices.Backward(guards) {
		decisions[g.number] = guarded + i // the first of several
	}
	list := make([]leaf, 0, len(decisions))
	for n, d := range decisions {
		if n == 0 || d != decisions[n-1] {
			list = append(list, leaf{first: uint32(n), decision: d})
		}
	}
	return append(list, leaf{first: lastKnown + 1, decision: absent})
}

const maxProgram = 1024

// program is filled from its end, since all its jumps go forward: the code that is jumped over stands already.
type program struct {
	guards []guard
	code   [maxProgram]unix.SockFilter
	at     int // of the first instruction
	full   bool
}

func (p *program) put(f unix.SockFilter) {
	if p.at == 0 {
		p.full = true
		return
	}
	p.at--
	p.code[p.at] = f
}

// search finds the leaf of the loaded number.
func (p *program) search(list []leaf) {
	if len(list) == 1 {
		p.decide(list[0].decision)
		return
	}
	mid := len(list) / 2
	p.search(list[mid:])
	high := p.at
	p.search(list[:mid])
	if low := high - p.at; low <= 255 {
		p.jump(unix.BPF_JGE, list[mid].first, low, 0)
	} else {
		p.skip(low)
		p.jump(unix.BPF_JGE, list[mid].first, 0, 1)
	}
}

func (p *program) decide(decision int) {
	switch decision {
	case deny:
		p.ret(retErrno | uint32(unix.EPERM))
	case allow:
		p.ret(retAllow)
	case absent:
		p.ret(retErrno | uint32(unix.ENOSYS))
	default:
		p.ret(retErrno | uint32(unix.EPERM))
		number := p.guards[decision-guarded].number
		for _, g := range slices.Backward(p.guards) {
			if g.number == number {
				p.check(g.cond)
			}
		}
	}
}

// check allows the call when the condition holds and goes on behind itself when not.
func (p *program) check(c condition) {
	end := p.at
	p.ret(retAllow)
	for _, t := range slices.Backward(c) {
		p.skip(end - p.at)
		for i, want := range slices.Backward(t.want) {
			p.jump(unix.BPF_JEQ, want, len(t.want)-i, 0)
		}
		if t.mask != 0xffffffff {
			p.put(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: t.mask})
		}
		p.load(t.offset)
	}
}

func (p *program) load(offset uint32) {
	p.put(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (p *program) ret(action uint32) {
	p.put(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
}

func (p *program) skip(n int) {
	p.put(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)})
}

// jump compares the accumulator with k and skips yes or no instructions, at most 255.
func (p *program) jump(op uint16, k uint32, yes, no int) {
	p.put(unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k})
}
