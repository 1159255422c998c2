package leak

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf/link"
)

// ledgerDir is the node's book of containers. Its records of those that have ended stay, and are no leak.
const ledgerDir = "/run/hachi/ledger"

// ledgerEntries lists the containers in the book, with what is said of them, for marks to be found in.
func ledgerEntries() []string {
	files, _ := filepath.Glob(filepath.Join(ledgerDir, "*.json"))
	var all []string
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil {
			all = append(all, f+" "+string(raw))
		}
	}
	return all
}

// pins lists what is pinned for single cgroups, by the cgroup's directory, or its number alone when it is gone.
func pins(names map[uint64]string) []string {
	dirs, _ := filepath.Glob("/sys/fs/bpf/hachi/*/*/[0-9]*")
	var all []string
	for _, dir := range dirs {
		if id, err := strconv.ParseUint(filepath.Base(dir), 10, 64); err == nil {
			all = append(all, dir+" "+cgroupName(names, id))
		}
	}
	return all
}

// links lists the BPF links that hang on a cgroup, pinned or not, in the same way.
func links(names map[uint64]string) []string {
	var all []string
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || info.Cgroup() == nil {
			continue
		}
		all = append(all, fmt.Sprintf("%d %s", info.ID, cgroupName(names, info.Cgroup().CgroupId)))
	}
	return all
}

// gone is what a cgroup is called that is not there any more.
const gone = "gone"

func cgroupName(names map[uint64]string, id uint64) string {
	if name := names[id]; name != "" {
		return name
	}
	return fmt.Sprintf("%d %s", id, gone)
}

// numbered maps the numbers of the cgroups of the cgroup2 tree to their directories.
func numbered() map[uint64]string {
	names := make(map[uint64]string)
	for _, m := range mounts() {
		f := strings.Fields(m)
		if len(f) < 2 || f[1] != "cgroup2" {
			continue
		}
		_ = filepath.WalkDir(f[0], func(path string, d fs.DirEntry, err error) error {
			var st syscall.Stat_t
			if err == nil && d.IsDir() && syscall.Stat(path, &st) == nil {
				names[st.Ino] = path
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	return names
}

// orphaned tells whether a pin or link belongs to no cgroup at all.
func orphaned(name string) bool { return strings.HasSuffix(name, " "+gone) }
