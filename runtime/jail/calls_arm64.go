package jail

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls are forms that only arm64 has.
var archCalls = []uint32{
	unix.SYS_FSTATAT, unix.SYS_RENAMEAT,
}
