package launch

import (
	"syscall"
	"unsafe"
)

// serverSpaces maps the namespaces that a pod's server lives in to their clone flags. The others (mount,
// pid, user, cgroup, time) belong to the engine processes.
var serverSpaces = map[string]uintptr{
	"network": syscall.CLONE_NEWNET,
	"ipc":     syscall.CLONE_NEWIPC,
	"uts":     syscall.CLONE_NEWUTS,
}

// ofServer returns the namespaces that change where a server lives.
func ofServer(all []namespace) []namespace {
	var own []namespace
	for _, n := range all {
		if serverSpaces[n.kind] != 0 {
			own = append(own, n)
		}
	}
	return own
}

// enter moves the calling thread into the namespaces: existing ones by path, new ones where the path is
// empty. A new network namespace gets its loopback device up, as runc does it. The thread is of no
// other use afterwards.
func enter(spaces []namespace) error {
	fds := make([]int, len(spaces))
	for i, n := range spaces { // before the first change: a path may mean the current view
		if n.path == "" {
			continue
		}
		fd, err := syscall.Open(n.path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fail("join "+n.kind+" namespace", n.path, err, "")
		}
		fds[i] = fd
		defer syscall.Close(fd)
	}
	for i, n := range spaces {
		flag := serverSpaces[n.kind]
		if n.path != "" {
			if _, _, errno := syscall.Syscall(sysSetns, uintptr(fds[i]), flag, 0); errno != 0 {
				return fail("join "+n.kind+" namespace", n.path, errno, "")
			}
			continue
		}
		if err := syscall.Unshare(int(flag)); err != nil {
			return fail("make namespace", n.kind, err, "")
		}
		if flag == syscall.CLONE_NEWNET {
			if err := loopbackUp(); err != nil {
				return fail("make namespace", "network: loopback", err, "")
			}
		}
	}
	return nil
}

// loopbackUp does `ip link set lo up` in the thread's network namespace (netdevice(7)).
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags int16
		_     [22]byte // struct ifreq has 40 bytes
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
