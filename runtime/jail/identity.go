package jail

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StripThread takes every capability out of the calling thread's bounding set and makes those it has
// inheritable, so that a root process started from this thread is born with the same capabilities and an
// empty bounding set. Enter then finds nothing to take away, which saves 2-3 ms: dropping a capability
// from the set of a process that has threads already costs 60 us each.
//
// It changes the thread for good. Call it with runtime.LockOSThread on a thread that does nothing but
// start processes that enter a jail. Without CAP_SETPCAP it does nothing.
func StripThread() error {
	caps, err := capabilities()
	if err != nil {
		return fmt.Errorf("strip thread: %w", err)
	}
	if !caps.effective(unix.CAP_SETPCAP) {
		return nil
	}
	for i := range caps {
		caps[i].Inheritable = caps[i].Permitted
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return fmt.Errorf("strip thread: capset: %w", err)
	}
	for _, c := range bounding() {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("strip thread: drop capability %d: %w", c, err)
		}
	}
	return nil
}

// dropPrivileges makes every thread the given user and takes all capabilities from it.
func dropPrivileges(u *User) error {
	caps, err := capabilities()
	if err != nil {
		return err
	}
	// The bounding set matters at execve only, which the filter forbids; this is the second lock.
	if caps.effective(unix.CAP_SETPCAP) {
		for _, c := range bounding() {
			if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
				return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
			}
		}
	}
	if u != nil {
		if err := become(u); err != nil {
			return err
		}
	}
	// Also empties the ambient set, which can never exceed permitted and inheritable.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none capSets
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	return nil
}

// become changes user and groups. Each change interrupts all threads, so it makes none that is not one.
func become(u *User) error {
	groups := make([]int, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = int(g)
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	have, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("read groups: %w", err)
	}
	slices.Sort(have)
	if !slices.Equal(groups, have) {
		if err := syscall.Setgroups(groups); err != nil {
			return fmt.Errorf("set groups %v: %w (needs CAP_SETGID)", groups, err)
		}
	}
	gid, uid := int(u.GID), int(u.UID)
	if r, e, s := unix.Getresgid(); r != gid || e != gid || s != gid {
		if err := syscall.Setresgid(gid, gid, gid); err != nil {
			return fmt.Errorf("become group %d: %w (needs CAP_SETGID)", gid, err)
		}
	}
	if r, e, s := unix.Getresuid(); r != uid || e != uid || s != uid {
		if err := syscall.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("become user %d: %w (needs CAP_SETUID)", uid, err)
		}
	}
	return nil
}

// dieWithParent asks for SIGKILL when the thread that started us dies. Changing user or capabilities made the
// kernel forget an earlier request, and a parent that died in between is seen by our new one. In a PID
// namespace both are 0; there the end of the control socket tells.
func dieWithParent(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with parent: %w", err)
	}
	if now := unix.Getppid(); now != parent {
		return fmt.Errorf("die with parent: process %d ended meanwhile", parent)
	}
	return nil
}

// capSets is version 3 of capset's data: 64 bits in two halves.
type capSets [2]unix.CapUserData

func capabilities() (capSets, error) {
	var sets capSets
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return sets, fmt.Errorf("read capabilities: %w", err)
	}
	return sets, nil
}

func (s capSets) effective(c int) bool { return s[c/32].Effective&(1<<(c%32)) != 0 }

// bounding lists the capabilities in the calling thread's bounding set, including those that are newer than we.
func bounding() []int {
	var set []int
	for c := 0; c < 64; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			break // one past the kernel's last
		}
		if has == 1 {
			set = append(set, c)
		}
	}
	return set
}

// allThreads runs one system call on every thread.
//
//go:uintptrescapes
func allThreads(call, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(call, a1, a2, a3)
	if errors.Is(errno, syscall.ENOTSUP) {
		return errors.New("binary is linked with cgo (build with CGO_ENABLED=0)")
	}
	if errno != 0 {
		return errno
	}
	return nil
}
