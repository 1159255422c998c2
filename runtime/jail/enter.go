package jail

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// nobody is the user and group that a compile worker becomes when it was started by root.
const nobody = 65534

// Enter confines the whole process, all its threads included, as c says. It cannot be undone, and when
// it fails the process is neither free nor jailed: report the error and exit.
//
// A process that builds a root (c.Root without FD) must have been cloned with CLONE_NEWNS. Enter then
// needs CAP_SYS_ADMIN; becoming another user needs CAP_SETUID and CAP_SETGID. Everything else works for
// an ordinary user too. Call it once, from the main goroutine, in a binary built with CGO_ENABLED=0,
// before the process has read anything it does not trust. The kernel must have mount_setattr (5.12)
// to build a root, and Landlock (5.13) when there is no root of its own to confine the process.
//
// In this order: root, oom_score_adj, umask, rlimits, Landlock, capabilities and identity,
// PR_SET_PDEATHSIG SIGKILL, no_new_privs, seccomp.
func Enter(c Config) error {
	// Only this thread's calls may decide, and m0 never exits: its pdeath signal lasts.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	parent := unix.Getppid()
	if err := setOOMScoreAdj(c.OOMScoreAdj); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	if c.Root != nil {
		// Modes of mount points must not depend on who started us.
		unix.Umask(0)
		if err := enterRoot(c.Root); err != nil {
			return fmt.Errorf("enter jail: %w", err)
		}
	}
	unix.Umask(umask(c.User))
	if err := setRlimits(c.Rlimits); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	paths := c.Paths
	if c.Root != nil {
		paths = []Path{{Path: "/"}}
	}
	// A root of its own confines the process well enough on a kernel without Landlock.
	if err := restrictPaths(paths, c.Root == nil); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	return lockDown(c.User, parent, guestCalls)
}

// Compiler confines a compile worker. It reads and writes the descriptors it was born with and nothing
// else: no file can be opened, no socket made. A worker started by root becomes 65534:65534.
func Compiler() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	parent := unix.Getppid()
	var user *User
	if unix.Geteuid() == 0 {
		user = &User{UID: nobody, GID: nobody}
	}
	limits := []Rlimit{
		{Type: "RLIMIT_CORE"},
		// The Go runtime needs few; the worker opens none.
		{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 64},
		// The slowest module known compiles in 10 s of CPU time.
		{Type: "RLIMIT_CPU", Soft: 600, Hard: 600},
	}
	if err := setRlimits(limits); err != nil {
		return fmt.Errorf("enter compiler jail: %w", err)
	}
	if err := restrictPaths(nil, false); err != nil {
		return fmt.Errorf("enter compiler jail: %w", err)
	}
	return lockDown(user, parent, compilerCalls)
}

// lockDown gives up identity and privileges and closes the kernel's doors.
func lockDown(user *User, parent int, calls callSet) error {
	if err := dropPrivileges(user); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	if err := dieWithParent(parent); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	if err := filterCalls(calls); err != nil {
		return fmt.Errorf("enter jail: %w", err)
	}
	return nil
}

func umask(u *User) int {
	if u == nil || u.Umask == nil {
		return 0o022
	}
	return int(*u.Umask & 0o777)
}
