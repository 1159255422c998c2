package jail

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

var oldFlags = map[uint64]uintptr{
	unix.MOUNT_ATTR_RDONLY:      unix.MS_RDONLY,
	unix.MOUNT_ATTR_NOSUID:      unix.MS_NOSUID,
	unix.MOUNT_ATTR_NODEV:       unix.MS_NODEV,
	unix.MOUNT_ATTR_NOEXEC:      unix.MS_NOEXEC,
	unix.MOUNT_ATTR_NODIRATIME:  unix.MS_NODIRATIME,
	unix.MOUNT_ATTR_NOSYMFOLLOW: unix.MS_NOSYMFOLLOW,
}

// mountOld mounts a file system by mount(2), for fsconfig takes no value longer than 255 bytes and overlay's
// lowerdir is longer.
func mountOld(target string, m Mount, o mountOptions) error {
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID)
	for attr, flag := range oldFlags {
		if o.set&attr != 0 {
			flags |= flag
		}
	}
	switch o.atime {
	case unix.MOUNT_ATTR_NOATIME:
		flags |= unix.MS_NOATIME
	case unix.MOUNT_ATTR_STRICTATIME:
		flags |= unix.MS_STRICTATIME
	}
	data := strings.Join(o.data, ",")
	if len(data) < os.Getpagesize() {
		return old(m, target, flags, data)
	}
	// Many layers: name them relative to the directory they share.
	dir, short := shorten(o.data)
	data = strings.Join(short, ",")
	if m.Type != "overlay" || len(data) >= os.Getpagesize() {
		return fmt.Errorf("options of %d bytes exceed a page (use an image with fewer layers)", len(data))
	}
	cwd, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open working directory: %w", err)
	}
	defer unix.Close(cwd)
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter %s: %w", dir, err)
	}
	return errors.Join(old(m, target, flags, data), unix.Fchdir(cwd))
}

func old(m Mount, target string, flags uintptr, data string) error {
	if err := unix.Mount(m.Source, target, m.Type, flags, data); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// shorten takes the longest directory that all lower layers are in off their names. Upper and work directory
// stay absolute.
func shorten(data []string) (dir string, short []string) {
	for _, opt := range data {
		list, isLower := strings.CutPrefix(opt, "lowerdir=")
		if !isLower {
			short = append(short, opt)
			continue
		}
		layers := strings.Split(list, ":")
		dir = path.Dir(layers[0])
		for _, l := range layers {
			for dir != "/" && dir != "." && !strings.HasPrefix(l, dir+"/") {
				dir = path.Dir(dir)
			}
		}
		for i, l := range layers {
			layers[i] = strings.TrimPrefix(strings.TrimPrefix(l, dir), "/")
		}
		short = append(short, "lowerdir="+strings.Join(layers, ":"))
	}
	return dir, short
}
