package wasi

import (
	"github.com/hachi-run/hachi/runtime/wasi/tree"
)

// lookupFollow is the only flag of `lookupflags`.
const lookupFollow = 1

// Flags of `oflags`.
const (
	openCreate = 1 << iota
	openDirectory
	openExclusive
	openTruncate
	openFlagsEnd
)

// dirWith finds a directory that has the right.
func (s *System) dirWith(fd uint64, need rights) (*descriptor, errno) {
	d := s.table.get(uint32(fd))
	switch {
	case d == nil:
		return nil, eBadf
	case d.dir == nil:
		return nil, eNotdir
	case d.base&need != need:
		return nil, eNotcapable
	}
	return d, success
}

// at is a path and the directory it starts from.
func (s *System) at(fd, p, n uint64, need rights) (*tree.Dir, string, errno) {
	d, e := s.dirWith(fd, need)
	if e != success {
		return nil, "", e
	}
	path, e := s.path(uint32(p), uint32(n))
	return d.dir, path, e
}

func follow(flags uint64) (bool, errno) {
	if uint32(flags)&^lookupFollow != 0 {
		return false, eInval
	}
	return flags&lookupFollow != 0, success
}

func (s *System) pathOpen(p []uint64) errno {
	oflags, flags := uint32(p[4]), uint32(p[7])
	followed, e := follow(p[1])
	if e != success {
		return e
	}
	if oflags >= openFlagsEnd || flags >= uint32(flagsEnd) {
		return eInval
	}
	need := rightPathOpen
	if oflags&openCreate != 0 {
		need |= rightPathCreateFile
	}
	if oflags&openTruncate != 0 {
		need |= rightPathFilestatSetSize
	}
	parent, e := s.dirWith(p[0], need)
	if e != success {
		return e
	}
	path, e := s.path(uint32(p[2]), uint32(p[3]))
	switch {
	case e != success:
		return e
	case !s.writable(uint32(p[8]), 4):
		return eFault
	case s.table.full():
		return eMfile
	}
	base := rights(p[5]) & parent.inheriting
	node, err := parent.dir.Open(path, tree.OpenOptions{
		Follow:    followed,
		Create:    oflags&openCreate != 0,
		Exclusive: oflags&openExclusive != 0,
		Truncate:  oflags&openTruncate != 0,
		Directory: oflags&openDirectory != 0,
		Read:      base&rightFdRead != 0,
		Write:     base&(rightFdWrite|rightFdAllocate) != 0,
	})
	if err != nil {
		return errnoOf(err)
	}
	d := opened(node)
	d.base &= base
	d.inheriting &= rights(p[6]) & parent.inheriting
	d.flags = fdflags(flags)
	d.readOnly = parent.readOnly
	fd, e := s.table.add(d)
	if e != success {
		_ = d.close()
		return e
	}
	return s.putU32(uint32(p[8]), fd)
}

// opened makes a descriptor of what the tree found, with all the rights its kind can have.
func opened(n *tree.Node) *descriptor {
	if n.Dir != nil {
		return &descriptor{kind: typeDirectory, base: rightsDir, inheriting: rightsDir | rightsFile, dir: n.Dir}
	}
	return fileDescriptor(n.FD, &n.Stat)
}

func (s *System) pathCreateDirectory(p []uint64) errno {
	dir, path, e := s.at(p[0], p[1], p[2], rightPathCreateDirectory)
	if e != success {
		return e
	}
	return errnoOf(dir.Mkdir(path))
}

func (s *System) pathRemoveDirectory(p []uint64) errno {
	dir, path, e := s.at(p[0], p[1], p[2], rightPathRemoveDirectory)
	if e != success {
		return e
	}
	return errnoOf(dir.Rmdir(path))
}

func (s *System) pathUnlinkFile(p []uint64) errno {
	dir, path, e := s.at(p[0], p[1], p[2], rightPathUnlinkFile)
	if e != success {
		return e
	}
	return errnoOf(dir.Unlink(path))
}

func (s *System) pathFilestatGet(p []uint64) errno { return s.pathFilestat(p, s.putFilestat) }

func (s *System) pathFilestat(p []uint64, put filestatWriter) errno {
	followed, e := follow(p[1])
	if e != success {
		return e
	}
	dir, path, e := s.at(p[0], p[2], p[3], rightPathFilestatGet)
	if e != success {
		return e
	}
	st, err := dir.Stat(path, followed)
	if err != nil {
		return errnoOf(err)
	}
	return put(uint32(p[4]), &st, typeOfMode(st.Mode))
}

func (s *System) pathFilestatSetTimes(p []uint64) errno {
	followed, e := follow(p[1])
	if e != success {
		return e
	}
	dir, path, e := s.at(p[0], p[2], p[3], rightPathFilestatSetTimes)
	if e != success {
		return e
	}
	times, e := timesOf(p[4], p[5], uint32(p[6]))
	if e != success {
		return e
	}
	return errnoOf(dir.SetTimes(path, followed, times))
}

// pathLink never follows: Linux cannot do that race-free, and the conformance suite wants EINVAL.
func (s *System) pathLink(p []uint64) errno {
	if uint32(p[1]) != 0 {
		return eInval
	}
	from, path, e := s.at(p[0], p[2], p[3], rightPathLinkSource)
	if e != success {
		return e
	}
	to, toPath, e := s.at(p[4], p[5], p[6], rightPathLinkTarget)
	if e != success {
		return e
	}
	return errnoOf(from.Link(path, to, toPath))
}

func (s *System) pathRename(p []uint64) errno {
	from, path, e := s.at(p[0], p[1], p[2], rightPathRenameSource)
	if e != success {
		return e
	}
	to, toPath, e := s.at(p[3], p[4], p[5], rightPathRenameTarget)
	if e != success {
		return e
	}
	return errnoOf(from.Rename(path, to, toPath))
}

func (s *System) pathSymlink(p []uint64) errno {
	dir, path, e := s.at(p[2], p[3], p[4], rightPathSymlink)
	if e != success {
		return e
	}
	target, e := s.path(uint32(p[0]), uint32(p[1]))
	if e != success {
		return e
	}
	return errnoOf(dir.Symlink(target, path))
}

func (s *System) pathReadlink(p []uint64) errno {
	dir, path, e := s.at(p[0], p[1], p[2], rightPathReadlink)
	if e != success {
		return e
	}
	b, ok := s.view(uint32(p[3]), uint32(p[4]))
	if !ok || !s.writable(uint32(p[5]), 4) {
		return eFault
	}
	n, err := dir.Readlink(path, b)
	if err != nil {
		return errnoOf(err)
	}
	return s.putU32(uint32(p[5]), uint32(n))
}
