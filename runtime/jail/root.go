package jail

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// enterRoot makes r the root directory of every thread.
func enterRoot(r *Root) error {
	if r.FD > 0 {
		return enterBuilt(r.FD)
	}
	if !filepath.IsAbs(r.Path) {
		return fmt.Errorf("build root: path %q is not absolute", r.Path)
	}
	// Slave, not private: what kubelet mounts later beneath the source of an rslave volume must arrive here. Nothing
	// goes the other way, and the old tree is gone after pivot_root.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("build root: make mounts slave: %w (needs CAP_SYS_ADMIN and CLONE_NEWNS)", err)
	}
	root, err := mountRootfs(r)
	if err != nil {
		return fmt.Errorf("build root: %w", err)
	}
	defer root.close()
	for _, m := range r.Mounts {
		if err := root.mount(m); err != nil {
			return fmt.Errorf("build root: mount %s on %s: %w", what(m), m.Target, err)
		}
	}
	for _, p := range r.ReadonlyPaths {
		if err := root.makeReadonly(p); err != nil {
			return fmt.Errorf("build root: make %s read-only: %w", p, err)
		}
	}
	for _, p := range r.MaskedPaths {
		if err := root.mask(p); err != nil {
			return fmt.Errorf("build root: mask %s: %w", p, err)
		}
	}
	if r.ReadOnly {
		if err := setattr(root.fd, 0, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("build root: make root read-only: %w", err)
		}
	}
	return root.pivot()
}

// enterBuilt moves into a root that another process of the container built. That root is in a mount
// namespace which a process with threads cannot join, so it is a chroot; with neither capability nor call
// to change root again, and no descriptor outside, there is no way back.
func enterBuilt(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("enter root: descriptor %d: %w", fd, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter root: chroot: %w (needs CAP_SYS_CHROOT)", err)
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("enter root: close descriptor %d: %w", fd, err)
	}
	return nil
}

// mountRootfs mounts the container's file system and returns it. The mounts in r.Rootfs come from
// containerd's snapshotter: a bind, an overlay, or several on top of each other.
func mountRootfs(r *Root) (*root, error) {
	mounts := r.Rootfs
	if len(mounts) == 0 {
		mounts = []Mount{{Type: "bind", Source: r.Path, Options: []string{"rbind"}}}
	}
	for _, m := range mounts {
		if m.Target != "" && m.Target != "/" {
			return nil, fmt.Errorf("mount %s: rootfs mounts with a target (%s) are not supported", what(m), m.Target)
		}
		if err := mountOn(r.Path, m); err != nil {
			return nil, fmt.Errorf("mount %s on %s: %w", what(m), r.Path, err)
		}
	}
	fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", r.Path, err)
	}
	// pivot_root refuses a shared root, and nothing in an image may act as a device or set-user-ID program.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := setattr(fd, unix.AT_RECURSIVE, attr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make %s private: %w", r.Path, err)
	}
	return &root{fd: fd}, nil
}

// root is a root file system under construction.
type root struct {
	fd int // O_PATH directory
}

func (r *root) close() { unix.Close(r.fd) }

// pivot makes r the root of the mount namespace and forgets the old one.
func (r *root) pivot() error {
	if err := unix.Fchdir(r.fd); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	// With both arguments "." the old root lands on top of the new one, where "." still names it after
	// the call; no directory for it has to exist in the image.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("pivot root: unmount old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	return nil
}

// makeReadonly mounts an existing path over itself, read-only with all that is mounted below.
func (r *root) makeReadonly(path string) error {
	fd, err := r.open(path, 0)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	if err := setattr(tree, unix.AT_RECURSIVE, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return attach(tree, fd)
}

// mask hides an existing path: a directory behind an empty one, anything else behind /dev/null.
func (r *root) mask(path string) error {
	fd, err := r.open(path, 0)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	dir, err := isDir(fd)
	if err != nil {
		return err
	}
	var cover int
	if dir {
		cover, err = newTmpfs([]string{"size=0", "nr_inodes=1"}, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	} else {
		cover, err = unix.OpenTree(unix.AT_FDCWD, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	}
	if err != nil {
		return err
	}
	defer unix.Close(cover)
	return attach(cover, fd)
}

func isAbsent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

func isDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
