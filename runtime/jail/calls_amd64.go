package jail

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// archCalls are older forms that the Go runtime and standard library use on amd64.
var archCalls = []uint32{
	unix.SYS_EPOLL_WAIT, unix.SYS_NEWFSTATAT, unix.SYS_POLL, unix.SYS_TIME, unix.SYS_RENAMEAT,
}
