package jail

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// skipped are file systems that only a program with the kernel's own ABI has a use for. A Wasm guest sees
// neither processes nor terminals, queues or cgroups through WASI, and each of them gives an attacker
// who got out of the guest something to read or poke. Their mount points are not created.
var skipped = map[string]bool{
	"proc": true, "sysfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true,
}

// mount mounts m at its target within the root.
func (r *root) mount(m Mount) error {
	if skipped[m.Type] {
		return nil
	}
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	switch {
	case m.Type == "bind" || o.bind:
		return r.bind(m, o)
	case m.Type == "tmpfs":
		return r.tmpfs(m, o)
	}
	return fmt.Errorf("type %q is not supported (bind and tmpfs are)", m.Type)
}

// bind attaches a copy of the source's mount tree. All flags are on it before it becomes visible.
func (r *root) bind(m Mount, o mountOptions) error {
	if len(o.data) > 0 {
		return fmt.Errorf("unknown option %q", o.data[0])
	}
	tree, err := cloneTree(m.Source, o)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	dir, err := isDir(tree)
	if err != nil {
		return err
	}
	target, err := r.target(m.Target, dir)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(tree, target)
}

func (r *root) tmpfs(m Mount, o mountOptions) error {
	attrs := o.set | o.atime | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	tree, err := newTmpfs(o.data, attrs)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	target, err := r.target(m.Target, true)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	dev := filepath.Clean("/"+m.Target) == "/dev"
	if dev && attrs&unix.MOUNT_ATTR_RDONLY != 0 {
		return errors.New("a read-only /dev cannot take its devices")
	}
	if err := attach(tree, target); err != nil || !dev {
		return err
	}
	return r.devices(tree)
}

// devices are all that a guest finds in /dev: no terminal, no links into /proc.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// devices binds the host's devices into the mounted tmpfs dev. They alone are mounted without nodev.
func (r *root) devices(dev int) error {
	for _, name := range devices {
		fd, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_WRONLY, 0o666)
		if err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
		err = bindDevice("/dev/"+name, fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("bind %s: %w", name, err)
		}
	}
	return nil
}

func bindDevice(source string, target int) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, Propagation: unix.MS_PRIVATE}
	if err := setattr(tree, 0, attr); err != nil {
		return err
	}
	return attach(tree, target)
}

// mountOn mounts m on a directory of the host, the place where the root is built.
func mountOn(path string, m Mount) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	if m.Type != "bind" && !o.bind {
		return mountOld(path, m, o)
	}
	tree, err := cloneTree(m.Source, o)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// cloneTree returns a detached copy of the mounts at source with o's flags. nodev and nosuid are always on.
func cloneTree(source string, o mountOptions) (int, error) {
	if !filepath.IsAbs(source) {
		return -1, fmt.Errorf("source %q is not absolute", source)
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.rbind {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	all := unix.MountAttr{Attr_set: o.recursive | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	one := unix.MountAttr{Attr_set: o.set}
	if o.propagateAll {
		all.Propagation = o.propagation
	} else {
		one.Propagation = o.propagation
	}
	if o.hasAtime {
		one.Attr_clr = unix.MOUNT_ATTR__ATIME
		one.Attr_set |= o.atime
	}
	err = setattr(tree, unix.AT_RECURSIVE, all)
	if err == nil && one != (unix.MountAttr{}) {
		err = setattr(tree, 0, one)
	}
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

func setattr(fd int, flags uint, attr unix.MountAttr) error {
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &attr); err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("mount_setattr: %w (needs Linux 5.12)", err)
		}
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

func attach(tree, target int) error {
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// newTmpfs returns a detached tmpfs with options such as size=64k and mode=0755.
func newTmpfs(options []string, attrs uint64) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for _, opt := range options {
		key, value, hasValue := strings.Cut(opt, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, fmt.Errorf("tmpfs option %q: %w", opt, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create tmpfs: %w", err)
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return tree, nil
}

func what(m Mount) string {
	if m.Source == "" || m.Source == m.Type {
		return m.Type
	}
	return m.Type + " " + m.Source
}
