package jail

import (
	"os"

	"golang.org/x/sys/unix"
)

// A callSet is what a filter lets through: plain calls always, checked ones when a guard holds, absent ones
// fail with ENOSYS so that callers fall back. All others fail with EPERM.
type callSet struct {
	plain   []uint32
	checked func() []guard
	absent  []uint32
}

// guestCalls serve an engine: the Go runtime, wazero and WASI on files, sockets and clocks.
var guestCalls = callSet{
	plain:   concat(baseCalls, archCalls, fileCalls, netCalls),
	checked: func() []guard { return append(baseGuards(os.Getpid()), netGuards()...) },
	absent:  absentCalls,
}

// compilerCalls serve a compile worker: memory, threads and open descriptors.
var compilerCalls = callSet{
	plain:   concat(baseCalls, archCalls),
	checked: func() []guard { return baseGuards(os.Getpid()) },
	absent:  absentCalls,
}

// baseCalls keep a Go process alive on the descriptors it has.
var baseCalls = []uint32{
	// memory; wazero makes code executable with mprotect
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MSYNC,
	unix.SYS_BRK, unix.SYS_MEMBARRIER, unix.SYS_MEMFD_CREATE,
	// threads and signals
	unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_SCHED_YIELD,
	unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETCPU, unix.SYS_SIGALTSTACK, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	unix.SYS_RT_SIGRETURN, unix.SYS_RESTART_SYSCALL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETGROUPS,
	// clocks and facts
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRANDOM,
	// open descriptors
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2, unix.SYS_LSEEK, unix.SYS_CLOSE,
	unix.SYS_CLOSE_RANGE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_FSTAT, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
	unix.SYS_FADVISE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_COPY_FILE_RANGE,
	unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_PIPE2, unix.SYS_EVENTFD2,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	// the control socket is a socket that exists already
	unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
}

// fileCalls open and change files, where Landlock and the root allow it. Modes and owners stay as they are:
// WASI has no call for them.
var fileCalls = []uint32{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_STATX, unix.SYS_READLINKAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_FSTATFS, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2,
	unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_UTIMENSAT,
}

var netCalls = []uint32{
	unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
}

// absentCalls would be EPERM, on which libraries give up instead of trying the older call.
var absentCalls = []uint32{unix.SYS_CLONE3}

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// fionbio is <asm-generic/ioctls.h>'s number, the same on amd64 and arm64.
const fionbio = 0x5421

func baseGuards(pid int) []guard {
	self := uint32(pid)
	const threadBits = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM
	return []guard{
		{unix.SYS_CLONE, masked(0, threadBits|newNamespaces, threadBits)},
		// Go's preemption; Landlock and uids do not keep a root guest from signalling root's processes.
		{unix.SYS_TGKILL, equals(0, self)},
		{unix.SYS_KILL, equals(0, self)},
		{unix.SYS_PRCTL, equals(0, unix.PR_SET_NAME, unix.PR_SET_VMA)},
		// reading one's own limits
		{unix.SYS_PRLIMIT64, all(equals(0, 0, self), equals(2, 0), equalsHigh(2, 0))},
		{unix.SYS_GETRLIMIT, nil},
		// no F_SETOWN, F_SETSIG: they send signals
		{unix.SYS_FCNTL, equals(1, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL,
			unix.F_SETFL, unix.F_ADD_SEALS, unix.F_GET_SEALS)},
		{unix.SYS_IOCTL, equals(1, fionbio, unix.TIOCINQ, unix.TCGETS, unix.TIOCGWINSZ)},
	}
}

func netGuards() []guard {
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	kind := func(want ...uint32) condition { return maskedAny(1, 0xffffffff&^flags, want...) }
	return []guard{
		{unix.SYS_SOCKET, all(equals(0, unix.AF_INET, unix.AF_INET6), kind(unix.SOCK_STREAM), equals(2, 0, unix.IPPROTO_TCP))},
		{unix.SYS_SOCKET, all(equals(0, unix.AF_INET, unix.AF_INET6), kind(unix.SOCK_DGRAM), equals(2, 0, unix.IPPROTO_UDP))},
		{unix.SYS_SOCKET, all(equals(0, unix.AF_UNIX), kind(unix.SOCK_STREAM, unix.SOCK_DGRAM), equals(2, 0))},
		// what Go's net and WASI set; socket filters, kTLS, TCP repair and netfilter tables are options too
		{unix.SYS_SETSOCKOPT, all(equals(1, unix.SOL_SOCKET), equals(2, unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE,
			unix.SO_BROADCAST, unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_LINGER, unix.SO_RCVTIMEO, unix.SO_SNDTIMEO))},
		{unix.SYS_SETSOCKOPT, all(equals(1, unix.IPPROTO_TCP), equals(2, unix.TCP_NODELAY, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL,
			unix.TCP_KEEPCNT, unix.TCP_USER_TIMEOUT, unix.TCP_DEFER_ACCEPT, unix.TCP_FASTOPEN, unix.TCP_QUICKACK, unix.TCP_CORK))},
		{unix.SYS_SETSOCKOPT, all(equals(1, unix.IPPROTO_IP), equals(2, unix.IP_TOS, unix.IP_TTL, unix.IP_PKTINFO, unix.IP_RECVERR,
			unix.IP_MULTICAST_IF, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP))},
		{unix.SYS_SETSOCKOPT, all(equals(1, unix.IPPROTO_IPV6), equals(2, unix.IPV6_V6ONLY, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS,
			unix.IPV6_RECVPKTINFO, unix.IPV6_RECVERR, unix.IPV6_MULTICAST_IF, unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_LOOP,
			unix.IPV6_JOIN_GROUP, unix.IPV6_LEAVE_GROUP))},
	}
}

func concat(sets ...[]uint32) []uint32 {
	var out []uint32
	for _, s := range sets {
		out = append(out, s...)
	}
	return out
}
