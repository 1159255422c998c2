package jail

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one target may lead through, as many as the kernel follows.
const maxLinks = 40

// open opens a path as an O_PATH descriptor. The kernel resolves it within the root: symbolic links and ".."
// cannot leave it, whoever changes the tree meanwhile.
func (r *root) open(path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(r.fd, path, &how)
		// EAGAIN: a rename elsewhere while ".." was resolved.
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s in root: %w", path, err)
		}
		return fd, nil
	}
}

// target opens the mount point at path and creates what is missing of it: parents as directories with mode
// 0755, itself as a directory or an empty file with mode 0644.
func (r *root) target(path string, dir bool) (int, error) {
	fd, err := r.open(path, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	prefix := "."
	todo := split(path)
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		next := prefix + "/" + name
		link, err := r.make(prefix, name, dir || len(todo) > 0)
		if err != nil {
			return -1, err
		}
		if link == "" {
			prefix = next
			continue
		}
		// A link that leads nowhere yet: make what it names.
		if links++; links > maxLinks {
			return -1, fmt.Errorf("create %s in root: %w", path, unix.ELOOP)
		}
		if strings.HasPrefix(link, "/") {
			prefix = "."
		}
		todo = append(split(link), todo...)
	}
	return r.open(prefix, 0)
}

// make sees to it that name exists in the directory at prefix. If name is a dangling link it returns
// where that leads.
func (r *root) make(prefix, name string, dir bool) (link string, err error) {
	fd, err := r.open(prefix+"/"+name, 0)
	if err == nil {
		return "", unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) {
		return "", err
	}
	parent, err := r.open(prefix, unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer unix.Close(parent)
	if dir {
		err = unix.Mkdirat(parent, name, 0o755)
	} else {
		var file int
		file, err = unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
		if err == nil {
			err = unix.Close(file)
		}
	}
	if err == nil {
		return "", nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("create %s in root: %w", prefix+"/"+name, err)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(parent, name, buf)
	if err != nil {
		return "", fmt.Errorf("create %s in root: %w", prefix+"/"+name, err)
	}
	return string(buf[:n]), nil
}

func split(path string) []string {
	var names []string
	for _, n := range strings.Split(path, "/") {
		if n != "" && n != "." {
			names = append(names, n)
		}
	}
	return names
}
