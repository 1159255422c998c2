package install

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// needKernel refuses a kernel on which guests cannot be confined.
func needKernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("check kernel: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("check kernel: release %q: %w", release, err)
	}
	if major < 5 || major == 5 && minor < 14 {
		return fmt.Errorf("check kernel: %s is too old (hachi needs Linux 5.14)", release)
	}
	return nil
}

// lock keeps a second installer of this containerd out; it waits for none. The lock is beside the socket, where no reboot
// leaves it.
func (i *Installer) lock() (unlock func(), err error) {
	dir, err := i.host.At(path.Dir(i.o.Socket))
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "hachi-install.lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w (needs root, and containerd's socket: name another with --socket)", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	var locked, named unix.Stat_t
	if err == nil {
		// Another may have removed it between the two calls.
		err = errors.Join(unix.Fstat(int(f.Fd()), &locked), unix.Stat(name, &named))
	}
	if err == nil && locked.Ino != named.Ino {
		err = unix.EAGAIN
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %s: %w (another hachi node command runs on this host)", name, err)
	}
	return func() {
		os.Remove(name)
		f.Close()
	}, nil
}
