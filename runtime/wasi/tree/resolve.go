package tree

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// pathMax is Linux's PATH_MAX without the terminating NUL.
const pathMax = unix.PathMax - 1

// raceRetries bounds how often a look-up through ".." is repeated because somebody renamed
// directories meanwhile (openat2 then says EAGAIN); after that the walk decides, which cannot be disturbed.
const raceRetries = 32

// check refuses what no look-up may begin with: absolute paths and a ".." too many.
func check(path string) error {
	switch {
	case path == "":
		return unix.ENOENT
	case len(path) > pathMax:
		return unix.ENAMETOOLONG
	case strings.IndexByte(path, 0) >= 0:
		return unix.EINVAL
	case path[0] == '/':
		return ErrEscape
	case !strings.Contains(path, ".."):
		return nil
	}
	depth := 0
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return ErrEscape
			}
		default:
			depth++
		}
	}
	return nil
}

// resolve opens path as seen from d. Flags are those of openat2.
func (d *Dir) resolve(path string, flags int, mode uint32) (int, error) {
	if err := check(path); err != nil {
		return -1, err
	}
	if d.tree.only != "" {
		if !isTop(path) {
			return -1, unix.ENOTDIR
		}
		return d.tree.lookup(d.fd, d.tree.only, flags|unix.O_NOFOLLOW, mode, false)
	}
	if d.top {
		return d.tree.lookup(d.fd, path, flags, mode, d.tree.root)
	}
	// A lower directory is no root of its own: links inside it may be absolute, or climb above it, and
	// still stay within the tree.
	fd, err := d.tree.lookup(d.fd, path, flags, mode, false)
	if !errors.Is(err, ErrEscape) || d.tree.top < 0 {
		return fd, err
	}
	if !d.stillAt(d.path) {
		return -1, ErrEscape
	}
	return d.tree.lookup(d.tree.top, d.path+"/"+path, flags, mode, d.tree.root)
}

// isTop tells whether a path that check lets through is one of "." and its other spellings.
func isTop(name string) bool { return path.Clean(name) == "." }

// stillAt reports whether the directory can still be reached the way it was opened.
func (d *Dir) stillAt(path string) bool {
	fd, err := d.tree.lookup(d.tree.top, path, unix.O_PATH|unix.O_DIRECTORY, 0, d.tree.root)
	if err != nil {
		return false
	}
	defer shut(fd)
	var here, there unix.Stat_t
	return unix.Fstat(d.fd, &here) == nil && unix.Fstat(fd, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// lookup confines a look-up to dir; asRoot makes dir what "/" means.
func (t *Tree) lookup(dir int, path string, flags int, mode uint32, asRoot bool) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if asRoot {
		how.Resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	for try := 0; try < raceRetries && !noOpenat2.Load(); try++ {
		fd, err := unix.Openat2(dir, path, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.EXDEV:
			return -1, ErrEscape
		case unix.ENOSYS:
			noOpenat2.Store(true)
		case unix.EPERM:
			// A filter older than openat2 answers EPERM for it, and so do immutable files: ask again
			// without a file in the question.
			if probe, e := unix.Openat2(dir, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}); e == nil {
				shut(probe)
				return -1, err
			}
			noOpenat2.Store(true)
		default:
			return fd, err
		}
	}
	w := walk{asRoot: asRoot, dirs: []int{dir}}
	defer w.close()
	return w.open(path, flags|unix.O_CLOEXEC, mode)
}

// parent resolves all but the last name of path. The name is never "..", is "." when path ends in a
// directory by its own spelling, and must be used without following it. slash tells that path ended in
// "/": then the name must be a directory.
func (d *Dir) parent(path string) (fd int, name string, slash bool, err error) {
	if err := check(path); err != nil {
		return -1, "", false, err
	}
	if d.tree.only != "" {
		if isTop(path) {
			return -1, "", false, unix.EBUSY // as with any mount
		}
		return -1, "", false, unix.ENOTDIR
	}
	trimmed := strings.TrimRight(path, "/")
	slash = trimmed != path
	dir, name := "", trimmed
	if i := strings.LastIndexByte(trimmed, '/'); i >= 0 {
		dir, name = trimmed[:i+1], trimmed[i+1:]
	}
	if name == ".." || name == "." {
		dir, name = trimmed, "."
	}
	if dir == "" {
		dir = "."
	}
	fd, err = d.resolve(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, "", false, err
	}
	return fd, name, slash, nil
}
