package image

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links of one lookup, like the kernel's MAXSYMLINKS.
const maxLinks = 40

// place is a name in one layer; path is relative to it, "." for its root.
type place struct {
	layer int
	path  string
}

// found is a file in the merged tree.
type found struct {
	place
	mode uint32
	// dirs are the directories that merge into this one, the top first; empty for anything else.
	dirs []place
}

// lookup follows name, relative to the root, through the merged tree the way a process that is
// chrooted into it would. Neither a link nor a racing rename can lead it outside of the layers. It
// returns unix.ENOENT, ENOTDIR or ELOOP as the kernel would.
func (r *rootfs) lookup(name string) (*found, error) {
	root := &found{mode: unix.S_IFDIR}
	for k := range r.layers {
		root.dirs = append(root.dirs, place{k, "."})
	}
	trail := []*found{root}
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		here := trail[len(trail)-1]
		if here.mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, unix.ENOTDIR
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if len(trail) > 1 {
				trail = trail[:len(trail)-1]
			}
			continue
		}
		next, err := r.child(here, part)
		if err != nil {
			return nil, err
		}
		if next.mode&unix.S_IFMT != unix.S_IFLNK {
			trail = append(trail, next)
			continue
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		target, err := r.readlink(next.place)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			trail = trail[:1]
		}
		todo = append(strings.Split(target, "/"), todo...)
		if len(todo) > 1<<14 {
			return nil, unix.ENAMETOOLONG
		}
	}
	return trail[len(trail)-1], nil
}

// child finds one name in a merged directory. The rules are those of the kernel's
// Documentation/filesystems/overlayfs.rst: "Upper and Lower", "whiteouts and opaque directories",
// "redirect_dir" and "Metadata only copy up".
func (r *rootfs) child(dir *found, name string) (*found, error) {
	var top *found // what was found so far, when layers below still count
	todo := make([]place, 0, len(dir.dirs))
	for _, d := range dir.dirs {
		todo = append(todo, place{d.layer, path.Join(d.path, name)})
	}
	redirected := false
	for k := 0; k < len(todo); k++ {
		at := todo[k]
		e, err := r.entry(at, redirected)
		if err != nil {
			return nil, err
		}
		kind := e.mode & unix.S_IFMT
		switch {
		case !e.exists:
		case top == nil && (kind == unix.S_IFDIR || e.metacopy):
			top = &found{place: at, mode: e.mode}
			if kind == unix.S_IFDIR {
				top.dirs = []place{at}
			}
		case top == nil:
			return &found{place: at, mode: e.mode}, nil
		case kind != top.mode&unix.S_IFMT: // hidden by what is above
			return top, nil
		case kind == unix.S_IFDIR:
			top.dirs = append(top.dirs, at)
		case !e.metacopy: // the data below a file of which only the metadata was copied up
			top.place = at
			return top, nil
		}
		if e.stop {
			break
		}
		switch {
		case strings.HasPrefix(e.redirect, "/"):
			todo, redirected = r.redirect(todo[:k+1], at, e.redirect), true
		case e.redirect != "": // renamed within its directory, which may itself be elsewhere below
			for j := k + 1; j < len(todo); j++ {
				todo[j].path = path.Join(path.Dir(todo[j].path), e.redirect)
			}
		}
	}
	if top == nil {
		return nil, unix.ENOENT
	}
	return top, nil
}

// entry is what one layer has under a name.
type entry struct {
	exists   bool
	mode     uint32
	metacopy bool
	// stop says that the layers below do not count.
	stop bool
	// redirect is where the layers below have it: a path from their root, with a slash in front, or a
	// name in the same directory; empty for the same name.
	redirect string
}

// entry looks at a place. The directory above it is known to be one, unless a redirect led here: then
// each directory of the way counts (whole), as the kernel's ovl_lookup_layer has it.
func (r *rootfs) entry(at place, whole bool) (entry, error) {
	var e entry
	from := len(at.path)
	if whole {
		from = 0
	}
	for end := range at.path + "/" {
		if end < from || end < len(at.path) && at.path[end] != '/' {
			continue
		}
		fd, stat, err := r.open(place{at.layer, at.path[:end]})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return e, nil
		}
		if err != nil {
			return e, err
		}
		kind := stat.Mode & unix.S_IFMT
		last := end == len(at.path)
		if r.overlay && (kind == unix.S_IFCHR && stat.Rdev == 0 || kind != unix.S_IFDIR && !last) { // a whiteout, or no way down
			e.stop = true
			unix.Close(fd)
			return e, nil
		}
		if r.overlay && (kind == unix.S_IFDIR || kind == unix.S_IFREG) {
			marks := r.marks(fd)
			e.stop = e.stop || kind == unix.S_IFDIR && marks["opaque"] == "y"
			_, e.metacopy = marks["metacopy"]
			e.metacopy = e.metacopy && kind == unix.S_IFREG
			switch to := marks["redirect"]; {
			case to == "":
			case strings.HasPrefix(to, "/"):
				e.redirect = to + at.path[end:]
			case whole:
				e.redirect = "/" + path.Join(path.Dir(at.path[:end]), path.Base(to)) + at.path[end:]
			default:
				e.redirect = path.Base(to)
			}
		}
		if last {
			e.exists, e.mode = true, stat.Mode
			e.stop = e.stop || kind != unix.S_IFDIR && !e.metacopy
		}
		unix.Close(fd)
	}
	return e, nil
}

// redirect replaces the places below at.
func (r *rootfs) redirect(done []place, at place, to string) []place {
	for k := at.layer + 1; k < len(r.layers); k++ {
		done = append(done, place{k, path.Join(".", to)})
	}
	return done
}

// open returns an O_PATH descriptor and its status. No component may be a link: lookup resolves them.
func (r *rootfs) open(p place) (int, unix.Stat_t, error) {
	var stat unix.Stat_t
	root, err := unix.Open(r.layers[p.layer], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, stat, fmt.Errorf("open %s: %w", r.layers[p.layer], err)
	}
	defer unix.Close(root)
	fd, err := openBeneath(root, p.path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return -1, stat, err
	}
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return -1, stat, err
	}
	return fd, stat, nil
}

// openBeneath needs Linux 5.6 (openat2).
func openBeneath(root int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

func (r *rootfs) readlink(p place) (string, error) {
	fd, _, err := r.open(p)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// marks reads overlayfs's own attributes; nearly always there are none. An O_PATH descriptor needs the
// way over /proc.
func (r *rootfs) marks(fd int) map[string]string {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	var names [4096]byte
	n, err := unix.Listxattr(path, names[:])
	if err != nil || n == 0 {
		return nil
	}
	var out map[string]string
	for _, name := range []string{"opaque", "metacopy", "redirect"} {
		if !strings.Contains(string(names[:n]), r.xattr+name+"\x00") {
			continue
		}
		value := make([]byte, unix.PathMax)
		k, err := unix.Getxattr(path, r.xattr+name, value)
		if err != nil {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = strings.TrimRight(string(value[:k]), "\x00")
	}
	return out
}
