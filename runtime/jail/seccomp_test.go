package jail

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// eval runs a filter as the kernel would (Linux, Documentation/networking/filter.rst).
func eval(t *testing.T, prog []unix.SockFilter, arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	var data [64]byte
	binary.NativeEndian.PutUint32(data[offNumber:], number)
	binary.NativeEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.NativeEndian.PutUint64(data[offArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		test := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.NativeEndian.Uint32(data[in.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			test = acc == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			test = acc >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			test = acc&in.K != 0
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
		if test {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("filter has no end")
	return 0
}

// Every number gets its decision, in both call sets.
func TestFilterDecidesEveryNumber(t *testing.T) {
	const eperm, enosys = retErrno | uint32(unix.EPERM), retErrno | uint32(unix.ENOSYS)
	for name, calls := range map[string]callSet{"guest": guestCalls, "compiler": compilerCalls} {
		prog, err := assemble(calls)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s filter: %d instructions", name, len(prog))
		checked := map[uint32]bool{}
		for _, g := range calls.checked() {
			checked[g.number] = true
			if slices.Contains(calls.plain, g.number) {
				t.Errorf("%s: call %d is plain and checked", name, g.number)
			}
		}
		for n := range uint32(lastKnown + 100) {
			// No guard takes all ones.
			got := eval(t, prog, auditArch, n, ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0))
			want := eperm
			switch {
			case slices.Contains(calls.plain, n) || n == unix.SYS_GETRLIMIT:
				want = retAllow
			case slices.Contains(calls.absent, n) || n > lastKnown:
				want = enosys
			}
			if got != want {
				t.Errorf("%s: call %d: action %#x; want %#x", name, n, got, want)
			}
		}
		if got := eval(t, prog, unix.AUDIT_ARCH_I386, unix.SYS_READ); got != retKill {
			t.Errorf("%s: call of another architecture: %#x; want kill", name, got)
		}
	}
}

func TestGuards(t *testing.T) {
	prog, err := assemble(guestCalls)
	if err != nil {
		t.Fatal(err)
	}
	self := uint64(os.Getpid())
	const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD
	for _, tt := range []struct {
		name   string
		number uint32
		args   []uint64
		want   bool
	}{
		{"Go's clone", unix.SYS_CLONE, []uint64{thread}, true},
		{"fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, false},
		{"vfork", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_VFORK}, false},
		{"thread in new namespace", unix.SYS_CLONE, []uint64{thread | unix.CLONE_NEWUSER}, false},
		{"preempt own thread", unix.SYS_TGKILL, []uint64{self, 99, 23}, true},
		{"signal another process", unix.SYS_TGKILL, []uint64{self + 1, 99, 23}, false},
		{"own limits", unix.SYS_PRLIMIT64, []uint64{0, 7, 0, 1}, true},
		{"own limits, by number", unix.SYS_PRLIMIT64, []uint64{self, 7, 0, 1}, true},
		{"set limits", unix.SYS_PRLIMIT64, []uint64{0, 7, 0x1000, 0}, false},
		{"set limits, high pointer", unix.SYS_PRLIMIT64, []uint64{0, 7, 1 << 40, 0}, false},
		{"name a mapping", unix.SYS_PRCTL, []uint64{unix.PR_SET_VMA, 0}, true},
		{"tcp", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, 0}, true},
		{"tcp6, by protocol", unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP}, true},
		{"udp as stream", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_UDP}, false},
		{"unix datagram", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, true},
		{"unknown type bits", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM | 0x1000, 0}, false},
		{"netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_DGRAM, 0}, false},
		{"nodelay", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_TCP, unix.TCP_NODELAY}, true},
		{"option of another level", unix.SYS_SETSOCKOPT, []uint64{5, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, false},
	} {
		if got := eval(t, prog, auditArch, tt.number, tt.args...) == retAllow; got != tt.want {
			t.Errorf("%s: allowed %v; want %v", tt.name, got, tt.want)
		}
	}
}
