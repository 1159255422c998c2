package tree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// dirMode is the mode of new directories before the process's umask.
const dirMode = 0o777

// change runs f with the parent of path, if the tree may be changed there.
func (d *Dir) change(path string, f func(dir int, name string, slash bool) error) error {
	dir, name, slash, err := d.parent(path)
	if err != nil {
		return err
	}
	defer shut(dir)
	if d.tree.readOnly {
		return unix.EROFS
	}
	if err := mayEnter(dir, true); err != nil {
		return err
	}
	return f(dir, name, slash)
}

// Mkdir makes a directory.
func (d *Dir) Mkdir(path string) error {
	return d.change(path, func(dir int, name string, _ bool) error {
		return unix.Mkdirat(dir, name, dirMode)
	})
}

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(path string) error {
	return d.change(path, func(dir int, name string, _ bool) error {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	})
}

// Unlink removes anything but a directory.
func (d *Dir) Unlink(path string) error {
	return d.change(path, func(dir int, name string, slash bool) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
		case isDir:
			return unix.EISDIR
		case slash:
			return unix.ENOTDIR
		}
		return unix.Unlinkat(dir, name, 0)
	})
}

// Symlink makes a symbolic link. An absolute target is refused with ErrEscape: what it would mean
// depends on who reads it.
func (d *Dir) Symlink(target, path string) error {
	switch {
	case target == "":
		return unix.ENOENT
	case len(target) > pathMax:
		return unix.ENAMETOOLONG
	case strings.IndexByte(target, 0) >= 0:
		return unix.EINVAL
	case target[0] == '/':
		return ErrEscape
	}
	return d.change(path, func(dir int, name string, slash bool) error {
		if slash {
			// POSIX lets a link to a directory end in a slash only if it is there already.
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					return unix.EEXIST
				}
				return unix.ENOTDIR
			}
			return unix.ENOENT
		}
		return unix.Symlinkat(target, dir, name)
	})
}

// Rename moves a name, also to another tree; both must be writable.
func (d *Dir) Rename(path string, to *Dir, toPath string) error {
	return d.change(path, func(from int, name string, slash bool) error {
		return to.change(toPath, func(dir int, toName string, toSlash bool) error {
			if name == "." || toName == "." {
				return unix.EBUSY
			}
			if slash || toSlash {
				var st unix.Stat_t
				if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return err
				}
				if st.Mode&unix.S_IFMT != unix.S_IFDIR {
					return unix.ENOTDIR
				}
			}
			return unix.Renameat(from, name, dir, toName)
		})
	})
}

// Link makes another name of a file, never following a last symbolic link. The source's tree must be
// writable too: through the new name the file can be written.
func (d *Dir) Link(path string, to *Dir, toPath string) error {
	return d.change(path, func(from int, name string, slash bool) error {
		return to.change(toPath, func(dir int, toName string, toSlash bool) error {
			if slash || toSlash {
				return unix.ENOENT
			}
			return unix.Linkat(from, name, dir, toName, 0)
		})
	})
}

// SetTimes sets access and modification time; unix.UTIME_NOW and UTIME_OMIT in Nsec mean what they mean
// to utimensat. Following a link needs kernel 5.8.
func (d *Dir) SetTimes(path string, follow bool, times [2]unix.Timespec) error {
	if follow {
		fd, err := d.resolve(path, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer shut(fd)
		if d.tree.readOnly {
			return unix.EROFS
		}
		return unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH)
	}
	return d.change(path, func(dir int, name string, slash bool) error {
		if slash {
			name += "/."
		}
		return unix.UtimesNanoAt(dir, name, times[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}
