package jail

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hostRoot is a jail in an empty directory with the given mounts.
func hostRoot(t testing.TB, mounts ...Mount) Config {
	t.Helper()
	return Config{Root: &Root{Path: t.TempDir(), Mounts: mounts}}
}

func TestForbiddenCalls(t *testing.T) {
	needRoot(t)
	c := jailed(t, hostRoot(t), newMounts())
	parent := os.Getpid()
	for _, tt := range []struct {
		name string
		call []int
		want syscall.Errno
	}{
		{"ptrace", []int{unix.SYS_PTRACE, unix.PTRACE_TRACEME}, unix.EPERM},
		{"mount", []int{unix.SYS_MOUNT}, unix.EPERM},
		{"umount2", []int{unix.SYS_UMOUNT2}, unix.EPERM},
		{"fsopen", []int{unix.SYS_FSOPEN}, unix.EPERM},
		{"open_tree", []int{unix.SYS_OPEN_TREE}, unix.EPERM},
		{"move_mount", []int{unix.SYS_MOVE_MOUNT}, unix.EPERM},
		{"mount_setattr", []int{unix.SYS_MOUNT_SETATTR}, unix.EPERM},
		{"pivot_root", []int{unix.SYS_PIVOT_ROOT}, unix.EPERM},
		{"chroot", []int{unix.SYS_CHROOT}, unix.EPERM},
		{"unshare user", []int{unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, unix.EPERM},
		{"setns", []int{unix.SYS_SETNS, 0, 0}, unix.EPERM},
		{"fork", []int{unix.SYS_CLONE, int(unix.SIGCHLD)}, unix.EPERM},
		{"clone user namespace", []int{unix.SYS_CLONE, unix.CLONE_NEWUSER | int(unix.SIGCHLD)}, unix.EPERM},
		{"clone thread in namespace", []int{unix.SYS_CLONE, unix.CLONE_THREAD | unix.CLONE_VM | unix.CLONE_SIGHAND | unix.CLONE_NEWNET}, unix.EPERM},
		{"clone3", []int{unix.SYS_CLONE3}, unix.ENOSYS},
		{"unknown call", []int{4000}, unix.ENOSYS},
		{"execveat", []int{unix.SYS_EXECVEAT}, unix.EPERM},
		{"bpf", []int{unix.SYS_BPF}, unix.EPERM},
		{"perf_event_open", []int{unix.SYS_PERF_EVENT_OPEN}, unix.EPERM},
		{"io_uring_setup", []int{unix.SYS_IO_URING_SETUP, 1}, unix.EPERM},
		{"userfaultfd", []int{unix.SYS_USERFAULTFD}, unix.EPERM},
		{"keyctl", []int{unix.SYS_KEYCTL}, unix.EPERM},
		{"add_key", []int{unix.SYS_ADD_KEY}, unix.EPERM},
		{"process_vm_readv", []int{unix.SYS_PROCESS_VM_READV, parent}, unix.EPERM},
		{"process_vm_writev", []int{unix.SYS_PROCESS_VM_WRITEV, parent}, unix.EPERM},
		{"pidfd_getfd", []int{unix.SYS_PIDFD_GETFD}, unix.EPERM},
		{"open_by_handle_at", []int{unix.SYS_OPEN_BY_HANDLE_AT}, unix.EPERM},
		{"init_module", []int{unix.SYS_INIT_MODULE}, unix.EPERM},
		{"kexec_load", []int{unix.SYS_KEXEC_LOAD}, unix.EPERM},
		{"reboot", []int{unix.SYS_REBOOT}, unix.EPERM},
		{"mknodat", []int{unix.SYS_MKNODAT}, unix.EPERM},
		{"fchmodat", []int{unix.SYS_FCHMODAT}, unix.EPERM},
		{"setuid", []int{unix.SYS_SETUID, 0}, unix.EPERM},
		{"capset", []int{unix.SYS_CAPSET}, unix.EPERM},
		{"personality", []int{unix.SYS_PERSONALITY}, unix.EPERM},
		{"seccomp", []int{unix.SYS_SECCOMP}, unix.EPERM},
		{"kill parent", []int{unix.SYS_KILL, parent, 0}, unix.EPERM},
		{"kill all", []int{unix.SYS_KILL, -1, 0}, unix.EPERM},
		{"tgkill parent", []int{unix.SYS_TGKILL, parent, parent, 0}, unix.EPERM},
		{"rt_sigqueueinfo", []int{unix.SYS_RT_SIGQUEUEINFO, parent}, unix.EPERM},
		{"live on without parent", []int{unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0}, unix.EPERM},
		{"become dumpable", []int{unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1}, unix.EPERM},
		{"raise a limit of the parent", []int{unix.SYS_PRLIMIT64, parent, unix.RLIMIT_NOFILE, 0, 0}, unix.EPERM},
		{"raise own limit", []int{unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 1, 0}, unix.EPERM},
		{"fcntl owner", []int{unix.SYS_FCNTL, 0, unix.F_SETOWN, parent}, unix.EPERM},
		{"push terminal input", []int{unix.SYS_IOCTL, 0, unix.TIOCSTI, 0}, unix.EPERM},
		{"netlink socket", []int{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0}, unix.EPERM},
		{"netlink datagram socket", []int{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_DGRAM, 0}, unix.EPERM},
		{"packet socket", []int{unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_DGRAM, 0}, unix.EPERM},
		{"vsock", []int{unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.EPERM},
		{"raw socket", []int{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, unix.EPERM},
		{"raw socket, flags", []int{unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, unix.EPERM},
		{"ping socket", []int{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, unix.EPERM},
		{"sctp socket", []int{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, unix.EPERM},
		{"seqpacket", []int{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_SEQPACKET, 0}, unix.EPERM},
		{"socket filter", []int{unix.SYS_SETSOCKOPT, 0, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, unix.EPERM},
		{"socket bpf", []int{unix.SYS_SETSOCKOPT, 0, unix.SOL_SOCKET, unix.SO_ATTACH_BPF}, unix.EPERM},
		{"tcp ulp", []int{unix.SYS_SETSOCKOPT, 0, unix.SOL_TCP, unix.TCP_ULP}, unix.EPERM},
		{"netfilter table", []int{unix.SYS_SETSOCKOPT, 0, unix.SOL_IP, 64}, unix.EPERM},
		// what the filter lets through to the kernel
		{"unix socket option", []int{unix.SYS_SETSOCKOPT, -1, unix.SOL_SOCKET, unix.SO_KEEPALIVE}, unix.EBADF},
		{"terminal size", []int{unix.SYS_IOCTL, -1, unix.TIOCGWINSZ}, unix.EBADF},
		{"tcp socket", []int{unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, 0},
		{"udp socket", []int{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0}, 0},
		{"unix socket", []int{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0}, 0},
		{"own limits", []int{unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, 0}, 0},
	} {
		if rep := c.do("raw", words(tt.call)...); rep.Errno != tt.want {
			t.Errorf("%s: errno %d (%q); want %d (%v)", tt.name, rep.Errno, rep.Err, tt.want, tt.want)
		}
	}
	c.refuse("exec", "/proc/self/exe", unix.EPERM)
	c.refuse("spawn", "/bin/true", unix.EPERM)
	c.must("work")
}

// The kernel would read another call's number out of these; the filter ends the process.
func TestForeignABIKills(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("x32 calls exist on amd64 only")
	}
	c := jailed(t, Config{}, nil)
	if err := c.in.Encode(request{Do: "raw", Args: words([]int{x32Bit | unix.SYS_GETPID})}); err != nil {
		t.Fatal(err)
	}
	err := c.cmd.Wait()
	if ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != unix.SIGSYS {
		t.Errorf("x32 getpid: %v; want death by SIGSYS", err)
	}
}

func TestCompilerHasNothingButItsDescriptors(t *testing.T) {
	needRoot(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := spawn(t, nil, w)
	if rep := c.send(request{Compiler: true}); rep.Err != "" {
		t.Fatal(rep.Err)
	}
	c.refuse("read", "/etc/passwd", unix.EPERM)
	c.refuse("list", "/", unix.EPERM)
	c.refuse("write", "/tmp/x", unix.EPERM)
	c.refuse("listen", "", unix.EPERM)
	c.refuse("exec", "/bin/true", unix.EPERM)
	for _, call := range [][]int{{unix.SYS_LSEEK, 3}, {unix.SYS_FSYNC, 3}} {
		if rep := c.do("raw", words(call)...); rep.Errno != unix.ESPIPE && rep.Errno != unix.EINVAL {
			t.Errorf("call %v on the worker's pipe: %q; want the pipe's own answer", call, rep.Err)
		}
	}
	if got, want := c.must("identity"), "65534 65534 65534 65534 []"; got != want {
		t.Errorf("identity %s; want %s", got, want)
	}
	checkStatus(t, c.cmd.Process.Pid)
}

// checkStatus reads every thread's credentials from outside.
func checkStatus(t *testing.T, pid int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(tasks) < 6 {
		t.Fatalf("threads of %d: %d, %v; want at least 6", pid, len(tasks), err)
	}
	want := []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
		"CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
	}
	for _, task := range tasks {
		status := strings.Split(readFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name())), "\n")
		for _, w := range want {
			if !slices.Contains(status, w) {
				t.Errorf("thread %s has no %q in\n%s", task.Name(), w, strings.Join(status, "\n"))
			}
		}
	}
}

func words(n []int) []string {
	out := make([]string, len(n))
	for i, v := range n {
		out[i] = fmt.Sprint(v)
	}
	return out
}
