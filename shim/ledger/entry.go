package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hachi-run/hachi/shim/launch"
)

// Entry is one container.
type Entry struct {
	// Namespace, Pod and Container name it; see Name.
	Name
	// ID is containerd's, in its namespace ContainerdNamespace.
	ID                  string `json:"id"`
	ContainerdNamespace string `json:"containerd_namespace"`
	// CgroupID is the number of the directory Cgroup, which BPF knows the container by. Without cgroup2 it is that of
	// the first of CgroupDirs, which serves as name alone.
	CgroupID uint64 `json:"cgroup_id"`
	// Cgroup is the container's directory in the cgroup2 tree; empty on a machine without one.
	Cgroup string `json:"cgroup,omitempty"`
	// CgroupDirs are all its directories, Cgroup among them.
	CgroupDirs []string `json:"cgroup_dirs"`
	// PID is the shim's, which started at PIDStart (launch.ProcessStart).
	PID      int    `json:"pid"`
	PIDStart uint64 `json:"pid_start"`
	// Started is when the container was created.
	Started time.Time `json:"started"`
	// Boot is the kernel's boot_id; Enter sets it.
	Boot string `json:"boot"`
}

// NewEntry describes a container that this process has just made in the cgroup with the given directories; unified is
// the one in the cgroup2 tree, or empty.
func NewEntry(namespace, id string, annotations map[string]string, unified string, dirs []string) (Entry, error) {
	e := Entry{
		Name: NameOf(namespace, id, annotations), ID: id, ContainerdNamespace: namespace,
		Cgroup: unified, CgroupDirs: dirs, PID: os.Getpid(), Started: time.Now(),
	}
	dir := unified
	if dir == "" && len(dirs) > 0 {
		dir = dirs[0]
	}
	var err error
	if e.CgroupID, err = number(dir); err != nil {
		return e, fmt.Errorf("cgroup of container %s: %w", id, err)
	}
	if e.PIDStart, err = launch.ProcessStart(e.PID); err != nil {
		return e, fmt.Errorf("start time of process %d: %w", e.PID, err)
	}
	return e, nil
}

// number is a cgroup's id: the inode of its directory (on 64-bit machines, Linux 5.5).
func number(dir string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return st.Ino, nil
}

func readEntry(path string) (Entry, error) {
	var e Entry
	if err := read(path, &e); err != nil {
		return e, err
	}
	err := e.check()
	if want := fmt.Sprint(e.CgroupID) + suffix; err == nil && filepath.Base(path) != want {
		err = fmt.Errorf("it belongs into %s", want)
	}
	if err != nil {
		return e, fmt.Errorf("%s: not an entry of the ledger: %w (remove it)", path, err)
	}
	return e, nil
}

// check looks for what a reader relies on.
func (e Entry) check() error {
	switch {
	case e.ID == "" || e.Namespace == "" || e.Pod == "" || e.Container == "":
		return errors.New("a name is missing")
	case e.CgroupID == 0 || len(e.CgroupDirs) == 0:
		return errors.New("the cgroup is missing")
	case e.Boot == "":
		return errors.New("the boot id is missing")
	}
	for _, dir := range append([]string{e.main()}, e.CgroupDirs...) {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
			return fmt.Errorf("cgroup %q is not a clean absolute path", dir)
		}
	}
	return nil
}

// main is the directory whose number is CgroupID.
func (e Entry) main() string {
	if e.Cgroup != "" {
		return e.Cgroup
	}
	return e.CgroupDirs[0]
}

// exists tells whether the container's cgroup is there: that one, and not a later one with its path.
func (e Entry) exists(boot string) bool {
	n, err := number(e.main())
	return err == nil && n == e.CgroupID && e.Boot == boot
}

// orphan tells whether the shim that made the entry has ended.
func (e Entry) orphan() bool { return launch.ProcessEnded(e.PID, e.PIDStart) }

func (e Entry) compare(o Entry) int {
	return cmp.Or(e.Name.compare(o.Name), strings.Compare(e.ID, o.ID), cmp.Compare(e.CgroupID, o.CgroupID))
}
