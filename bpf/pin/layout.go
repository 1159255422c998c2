// Package pin keeps programs, maps and links alive between processes: what it pins on a bpffs outlives whoever pinned
// it. Below one root there is one directory per layout version:
//
//	<root>/<Version>/map/<name>             maps, shared by every pod of the node
//	<root>/<Version>/prog/<set>-<sum>/...   programs, one directory per build of a set
//	<root>/<Version>/pod/<cgroup id>/<hook> links, one directory per cgroup
//
// bpffs allows no dot in a name.
package pin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// DefaultRoot is where hachi pins.
const DefaultRoot = "/sys/fs/bpf/hachi"

// Version names the layout of the pinned maps: their keys, values and sizes, and which cgroup storages each linked
// program uses. Whoever changes one of these must change Version, for a link's program is replaced in place, and the
// kernel (checked in 6.18) does not compare the storages of the old and the new one.
const Version = "v1"

// A Layout is one version's directory. It holds no descriptor and needs no Close; its methods may be called
// concurrently and from several processes.
type Layout struct{ dir string }

// Open returns the layout below root, or an error that is fs.ErrNotExist if nobody ever made it.
func Open(root string) (*Layout, error) {
	l := &Layout{filepath.Join(root, Version)}
	if _, err := os.Stat(filepath.Join(l.dir, "pod")); err != nil {
		return nil, fmt.Errorf("open pins: %w", err)
	}
	return l, nil
}

// Make is Open, but makes what is missing: the directories, readable by root alone, and a bpffs on root's parent
// directory if that lies on none.
func Make(root string) (*Layout, error) {
	if l, err := Open(root); err == nil {
		return l, nil
	}
	if err := mountAround(root); err != nil {
		return nil, err
	}
	l := &Layout{filepath.Join(root, Version)}
	for _, sub := range []string{"map", "prog", "pod"} {
		if err := os.MkdirAll(filepath.Join(l.dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make pin directory: %w", err)
		}
	}
	return l, nil
}

// Maps is the directory of the pinned maps, Map the path of one.
func (l *Layout) Maps() string           { return filepath.Join(l.dir, "map") }
func (l *Layout) Map(name string) string { return filepath.Join(l.dir, "map", name) }

// Link is the path of a hook's link.
func (l *Layout) Link(id uint64, hook string) string { return filepath.Join(l.pod(id), hook) }

func (l *Layout) pod(id uint64) string {
	return filepath.Join(l.dir, "pod", strconv.FormatUint(id, 10))
}

// Pods lists the cgroup ids that have a directory of links.
func (l *Layout) Pods() ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(l.dir, "pod"))
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var ids []uint64
	for _, e := range entries {
		if id, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// mountAround makes sure that root will lie on a bpffs.
func mountAround(root string) error {
	base := filepath.Dir(root)
	if on, err := onBPFFS(root, base); err != nil || on {
		return err
	}
	// Two processes that both see no mount would stack two, and the second would hide the pins of the first.
	above, err := os.Open(filepath.Dir(base))
	if err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	defer above.Close()
	if err := flock(above, unix.LOCK_EX); err != nil {
		return fmt.Errorf("mount bpffs: lock %s: %w", above.Name(), err)
	}
	if on, err := onBPFFS(root, base); err != nil || on {
		return err
	}
	if err := unix.Mount("bpf", base, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs: %s: %w (needs CAP_SYS_ADMIN, or mount it first: mount -t bpf bpf %s)", base, err, base)
	}
	return nil
}

func onBPFFS(dirs ...string) (bool, error) {
	var st unix.Statfs_t
	for _, dir := range dirs {
		err := unix.Statfs(dir, &st)
		switch {
		case err == nil:
			return st.Type == unix.BPF_FS_MAGIC, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("find bpffs: %s: %w", dir, err)
		}
	}
	return false, fmt.Errorf("find bpffs: %s: %w (this kernel has no BPF file system, or /sys is not mounted)", dirs[len(dirs)-1], fs.ErrNotExist)
}
