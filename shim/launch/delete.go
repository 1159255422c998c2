package launch

import (
	"errors"
	"io"
	"syscall"
	"time"
)

// deleteTimeout bounds the whole cleaning; containerd gives delete five seconds.
const deleteTimeout = 2 * time.Second

// delete removes what a container may have left: containerd executes it after every container, also
// after one that ended well, and then there is nothing to do. It may run again at any time.
//
// What cannot be removed is reported on stderr, which containerd logs. Only a process that outlives
// SIGKILL makes it fail: then containerd keeps the bundle, and tries again when it restarts.
func (l *Launcher) delete(f *flags) error {
	deadline := time.Now().Add(deleteTimeout)
	left, err := readLeftovers(f.bundle)
	l.warn(err)
	alive, err := hold(left.PIDs)
	l.warn(err)
	if len(alive) > 0 {
		for _, dir := range left.Cgroups {
			thaw(dir)
		}
	}
	var stuck error
	for _, v := range alive {
		stuck = errors.Join(stuck, v.end(deadline))
		_ = syscall.Close(v.fd)
	}
	if stuck != nil {
		return stuck
	}
	l.warn(l.collect(f, left, deadline))
	for _, dir := range left.Cgroups {
		l.warn(removeCgroup(dir, deadline))
	}
	l.removeSockets(f.bundle, left)

	if runc := inBundle(f.bundle, "runtime"); syscall.Access(runc, 0) == nil {
		// The embedded runc service made this bundle, and only the server's binary knows how to undo it.
		err := syscall.Exec(l.Server, append([]string{l.Server}, l.Args...), l.Env)
		return fail("delete Linux container", l.Server, err, installHint)
	}
	l.warn(unmount(inBundle(f.bundle, "rootfs")))

	if _, err := l.Stdout.Write(left.response(time.Now())); err != nil {
		return fail("answer containerd", "stdout", unwrapPath(err), "")
	}
	return nil
}

func (l *Launcher) warn(err error) {
	if err != nil {
		_, _ = io.WriteString(l.Stderr, "hachi: "+err.Error()+"\n")
	}
}

// removeSockets removes the sockets that nobody listens on any more. A pod's socket is named in the
// bundles of the containers that start was executed for.
func (l *Launcher) removeSockets(bundle string, left *Leftovers) {
	sockets := left.Sockets
	if b, err := readFile(inBundle(bundle, "address"), 4096); err == nil {
		if path, ok := socketOf(string(b)); ok {
			sockets = append(sockets, path)
		}
	}
	for _, path := range sockets {
		if err := removeDead(path); err != nil {
			l.warn(fail("remove socket", path, err, ""))
		}
	}
}

// unmount detaches all mounts on a path, which may not exist.
func unmount(path string) error {
	const noFollow, most = 8 /* UMOUNT_NOFOLLOW */, 64
	for range most {
		switch err := syscall.Unmount(path, syscall.MNT_DETACH|noFollow); err {
		case nil:
		case syscall.EINVAL, syscall.ENOENT: // EINVAL: nothing mounted
			return nil
		default:
			return fail("unmount", path, err, "")
		}
	}
	return fail("unmount", path, errors.New("too many mounts"), "")
}

// response is the DeleteResponse message: the exit that the server saw, or else death by SIGKILL now.
func (left *Leftovers) response(now time.Time) []byte {
	status, at := uint32(128+syscall.SIGKILL), now
	if left.Exit != nil {
		status, at = left.Exit.Status, time.Unix(0, left.Exit.At)
	}
	var b []byte
	if len(left.PIDs) > 0 {
		b = appendUint(b, 1, uint64(uint32(left.PIDs[0].PID)))
	}
	b = appendUint(b, 2, uint64(status))
	stamp := appendUint(nil, 1, uint64(at.Unix()))
	stamp = appendUint(stamp, 2, uint64(at.Nanosecond()))
	return appendMessage(b, 3, stamp)
}
