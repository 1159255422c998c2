package jail

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoLandlock is the cause when a jail without a root of its own is wanted and the kernel cannot confine
// it: Landlock is older than 5.13, not built in, or not in the kernel's lsm= list.
var ErrNoLandlock = errors.New("landlock not available (needs Linux 5.13 with landlock among its security modules)")

const (
	accessRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	accessFile = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// restrictPaths lets every thread use files beneath paths and no others. Nobody may execute, make device
// nodes or talk to devices by ioctl. Descriptors that are open already stay usable. TCP and UDP are left
// to the pod's network namespace; abstract unix sockets of others are out of reach from ABI 6 on, and
// signals are the filter's business, for before 6.15 Landlock also stopped those between our own threads.
//
// This speaks to the kernel itself: go-landlock sets no_new_privs on all threads first, 60 us that a
// process which still holds CAP_SYS_ADMIN does not need.
func restrictPaths(paths []Path, required bool) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		if required {
			return ErrNoLandlock
		}
		return nil
	}
	attr := unix.LandlockRulesetAttr{Access_fs: handled(int(abi))}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: create ruleset (ABI %d): %w", abi, errno)
	}
	defer unix.Close(int(ruleset))
	for _, p := range paths {
		if err := allowPath(int(ruleset), p, attr.Access_fs); err != nil {
			return err
		}
	}
	return restrictThreads(ruleset, int(abi))
}

// handled is every file system right that an ABI knows: 13 in the first, one more in the 2nd (refer), the 3rd
// (truncate) and the 5th (ioctl on devices).
func handled(abi int) uint64 {
	switch {
	case abi >= 5:
		return 1<<16 - 1
	case abi >= 3:
		return 1<<15 - 1
	case abi == 2:
		return 1<<14 - 1
	}
	return 1<<13 - 1
}

func allowPath(ruleset int, p Path, handled uint64) error {
	fd, err := unix.Open(p.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("landlock: open %s: %w", p.Path, err)
	}
	defer unix.Close(fd)
	access := uint64(accessRead)
	if !p.ReadOnly {
		access |= accessWrite
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: stat %s: %w", p.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= accessFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & handled, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: allow %s: %w", p.Path, errno)
	}
	return nil
}

func restrictThreads(ruleset uintptr, abi int) error {
	caps, err := capabilities()
	if err != nil {
		return err
	}
	if abi >= 8 {
		// The kernel reaches all threads itself, and spreads no_new_privs with the ruleset.
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0); errno != 0 {
			return fmt.Errorf("landlock: restrict: %w", errno)
		}
		return nil
	}
	if !caps.effective(unix.CAP_SYS_ADMIN) {
		if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if err := allThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); err != nil {
		return fmt.Errorf("landlock: restrict: %w", err)
	}
	return nil
}
