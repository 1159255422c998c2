package tree

import (
	"slices"

	"golang.org/x/sys/unix"
)

// procRootIno is the inode of the top directory of every procfs (PROC_ROOT_INO).
const procRootIno = 1

// procFiles are the files of /proc that a guest may read. The others describe, or are, the engine: a
// guest that writes /proc/self/mem owns the process.
var procFiles = []string{"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "vmstat"}

// mayOpenDevice allows the character devices that hold no state of the host: null, zero, full, random
// and urandom.
func mayOpenDevice(rdev uint64) bool {
	if unix.Major(rdev) != 1 {
		return false
	}
	switch unix.Minor(rdev) {
	case 3, 5, 7, 8, 9:
		return true
	}
	return false
}

// kind is what the policy distinguishes about file systems.
type kind int

const (
	ordinary kind = iota
	process       // procfs
	kernel        // other file systems whose files are the kernel's switches
)

func kindOf(fd int, st *unix.Stat_t) (kind, error) {
	// All of them live on anonymous devices, so that files of a disk cost no further call.
	if unix.Major(st.Dev) != 0 {
		return ordinary, nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return ordinary, err
	}
	// The constants do not fit the field's signed type on 32-bit systems.
	switch uint32(fs.Type) {
	case unix.PROC_SUPER_MAGIC:
		return process, nil
	case unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC,
		unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.EFIVARFS_MAGIC, unix.SELINUX_MAGIC, unix.NSFS_MAGIC:
		return kernel, nil
	}
	return ordinary, nil
}

// mayEnter decides whether names in a directory may be opened by name, read as links or changed.
func mayEnter(dir int, change bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	k, err := kindOf(dir, &st)
	switch {
	case err != nil:
		return err
	case k == process && st.Ino != procRootIno:
		return unix.EACCES
	case k != ordinary && change:
		return unix.EROFS
	}
	return nil
}

// mayOpen decides about an object that a look-up has found.
func mayOpen(fd int, st *unix.Stat_t, o OpenOptions) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return unix.ELOOP
	case unix.S_IFSOCK:
		return unix.ENXIO
	case unix.S_IFBLK:
		return unix.EACCES
	case unix.S_IFCHR:
		if !mayOpenDevice(st.Rdev) {
			return unix.EACCES
		}
		return nil
	}
	k, err := kindOf(fd, st)
	switch {
	case err != nil:
		return err
	case k == kernel && (o.Write || o.Truncate):
		return unix.EROFS
	case k == process && (o.Write || o.Truncate):
		return unix.EACCES
	case k == process && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Ino != procRootIno:
		return unix.EACCES
	}
	return nil
}

// openProc opens one of the harmless files of /proc; path is known to lead to a procfs.
func (d *Dir) openProc(path string, want *unix.Stat_t) (int, error) {
	dir, name, slash, err := d.parent(path)
	if err != nil {
		return -1, err
	}
	defer shut(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return -1, err
	}
	if slash || st.Dev != want.Dev || st.Ino != procRootIno || !slices.Contains(procFiles, name) {
		return -1, unix.EACCES
	}
	return openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}
