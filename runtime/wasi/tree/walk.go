package tree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one look-up may follow, as in Linux.
const maxLinks = 40

// walk is a look-up in user space, one component at a time and never following a link by itself. ".."
// goes back along the descriptors it came by, so that no rename can move it out of the tree.
type walk struct {
	asRoot bool
	dirs   []int // dirs[0] is the tree's; the others are the walk's own
	links  int
}

func (w *walk) close() {
	w.backTo(1)
}

func (w *walk) backTo(n int) {
	for _, fd := range w.dirs[n:] {
		shut(fd)
	}
	w.dirs = w.dirs[:n]
}

func (w *walk) open(path string, flags int, mode uint32) (int, error) {
	names := split(path)
	for {
		last := len(names) == 1
		switch name := names[0]; {
		case name == ".." && len(w.dirs) > 1:
			w.backTo(len(w.dirs) - 1)
		case name == ".." && !w.asRoot:
			return -1, ErrEscape
		case name == ".." || name == ".":
		default:
			fd, target, err := w.step(name, last, flags, mode)
			if err != nil {
				return -1, err
			}
			if target == "" {
				if last {
					return fd, nil
				}
				w.dirs = append(w.dirs, fd)
				break
			}
			if names, err = w.follow(target, names[1:]); err != nil {
				return -1, err
			}
			continue
		}
		if last {
			// The path ended in "." or "..": it names the directory the walk stands in.
			return openat(w.dirs[len(w.dirs)-1], ".", flags&^(unix.O_CREAT|unix.O_EXCL), 0)
		}
		names = names[1:]
	}
}

// step opens one name in the directory the walk stands in, or returns the link it must follow.
func (w *walk) step(name string, last bool, flags int, mode uint32) (fd int, target string, err error) {
	here := w.dirs[len(w.dirs)-1]
	mayFollow := !last || flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	if mayFollow {
		if target, err = readlinkat(here, name); err == nil {
			return -1, target, w.checkLink(here)
		}
	}
	if !last {
		flags, mode = unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0
	}
	fd, err = openat(here, name, flags|unix.O_NOFOLLOW, mode)
	return fd, "", err
}

// checkLink refuses links of /proc: some of them are magic, and none is needed.
func (w *walk) checkLink(dir int) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return unix.ELOOP
	}
	return nil
}

func (w *walk) follow(target string, rest []string) ([]string, error) {
	if target[0] == '/' {
		if !w.asRoot {
			return nil, ErrEscape
		}
		w.backTo(1)
	}
	return append(split(target), rest...), nil
}

// split never returns an empty list; a trailing slash becomes a last ".", which asks for a directory.
func split(path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 || strings.HasSuffix(path, "/") {
		names = append(names, ".")
	}
	return names
}

func readlinkat(dir int, name string) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, b[:])
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", unix.ENOENT
	}
	return string(b[:n]), nil
}
