package doctor

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// bpffsDir is where hachi expects the bpf file system, and mounts it if it is not there.
const bpffsDir = "/sys/fs/bpf"

// mounts are the file systems that matter here.
type mounts struct {
	err error
	// v1 are the mounted cgroup v1 controllers; v2 and bpf are mount points, "" if there is none.
	v1      []string
	v2, bpf string
}

func readMounts(file string) *mounts {
	raw, err := os.ReadFile(file)
	if err != nil {
		return &mounts{err: err}
	}
	return parseMounts(string(raw))
}

// parseMounts reads proc_pid_mountinfo(5). Of two file systems of a kind the first counts, as it does for the shim.
func parseMounts(mountinfo string) *mounts {
	m := &mounts{}
	for line := range strings.Lines(mountinfo) {
		left, right, found := strings.Cut(line, " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !found || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		dir := fields[4]
		switch tail[0] {
		case "cgroup":
			for option := range strings.SplitSeq(tail[2], ",") {
				// What a tree is mounted with and no controller: rw, name=systemd, xattr.
				if slices.Contains([]string{"cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "freezer"}, option) {
					m.v1 = append(m.v1, option)
				}
			}
		case "cgroup2":
			if m.v2 == "" {
				m.v2 = dir
			}
		case "bpf":
			if m.bpf == "" || dir == bpffsDir {
				m.bpf = dir
			}
		}
	}
	slices.Sort(m.v1)
	m.v1 = slices.Compact(m.v1)
	return m
}

func (m *mounts) cgroup2Dir() string { return m.v2 }

// controllers says which layout of cgroups the machine has, and whether pods can be limited and measured in it.
func (m *mounts) controllers() Finding {
	const name = "cgroups"
	wanted := []string{"cpu", "memory", "pids"}
	switch {
	case m.err != nil:
		return unknown(name, forPods, "%v", m.err)
	case len(m.v1) > 0:
		layout := "v1"
		if m.v2 != "" {
			layout = "hybrid"
		}
		return judgeControllers(layout, wanted, m.v1, "mount -t cgroup -o %s %[1]s /sys/fs/cgroup/%[1]s")
	case m.v2 != "":
		raw, err := os.ReadFile(m.v2 + "/cgroup.controllers")
		if err != nil {
			return unknown(name, forPods, "%v", err)
		}
		return judgeControllers("v2", wanted, strings.Fields(string(raw)), "the %s controller in the kernel and its command line")
	}
	return missing(name, forPods, "mount -t cgroup2 none /sys/fs/cgroup", "no cgroup file system is mounted")
}

func judgeControllers(layout string, wanted, has []string, advice string) Finding {
	var lacks []string
	for _, c := range wanted {
		if !slices.Contains(has, c) {
			lacks = append(lacks, c)
		}
	}
	if len(lacks) > 0 {
		return missing("cgroups", forPods, oneLine(advice, lacks[0]), "%s, without %s", layout, strings.Join(lacks, ", "))
	}
	return ok("cgroups", forPods, "%s: %s", layout, strings.Join(has, " "))
}

// cgroup2 is where the eBPF programs are attached, also where the controllers are v1.
func (m *mounts) cgroup2() Finding {
	const name = "cgroup2"
	switch {
	case m.err != nil:
		return unknown(name, forAccounting, "%v", m.err)
	case m.v2 == "":
		return missing(name, forAccounting, "mount -t cgroup2 none /sys/fs/cgroup/unified", "no cgroup2 file system is mounted")
	}
	return ok(name, forAccounting, "%s", m.v2)
}

func (m *mounts) bpffs() Finding {
	const name = "bpffs"
	switch {
	case m.err != nil:
		return unknown(name, forAccounting, "%v", m.err)
	case m.bpf == bpffsDir:
		return ok(name, forAccounting, "%s", bpffsDir)
	}
	_, err := os.Stat(bpffsDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(name, forAccounting, "sysfs at /sys, and a kernel with CONFIG_BPF_SYSCALL=y", "no %s", bpffsDir)
	case err != nil:
		return unknown(name, forAccounting, "%v", err)
	}
	return ok(name, forAccounting, "%s is mounted at the first start", bpffsDir)
}
