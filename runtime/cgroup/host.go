package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// host is where this machine keeps its cgroups: v1 hierarchies, a cgroup2 tree, or both.
type host struct {
	v1 []hierarchy
	// v2 is the cgroup2 mount point; "" if there is none.
	v2 string
	// unified says that controllers are on cgroup2: no v1 hierarchy has any.
	unified bool
}

// hierarchy is one mounted v1 tree.
type hierarchy struct {
	dir string
	// prefix is the part of the hierarchy that dir shows, "/" unless we live in a container.
	prefix string
	// controllers are those of ours that it has; name is set instead for a tree without any, such as "systemd".
	controllers []string
	name        string
}

// wanted are the v1 controllers that serve a Wasm container. Device rules are not among them: the jail mounts
// everything nodev and forbids mknod, so that a group in the devices tree would guard nothing.
var wanted = []string{"blkio", "cpu", "cpuacct", "cpuset", "freezer", "hugetlb", "memory", "pids"}

func readHost() (*host, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	h := parseHost(string(info))
	if !systemdRuns() {
		// Nobody looks into its tree, and each tree costs every start 60 us.
		h.v1 = slices.DeleteFunc(h.v1, func(t hierarchy) bool { return t.name != "" })
	}
	if len(h.v1) == 0 && h.v2 == "" {
		return nil, errors.New("find cgroups: no cgroup or cgroup2 file system is mounted (mount -t cgroup2 none /sys/fs/cgroup)")
	}
	return h, nil
}

// parseHost reads proc_pid_mountinfo(5).
func parseHost(mountinfo string) *host {
	h := &host{}
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		prefix, dir := unescape(fields[3]), unescape(fields[4])
		switch tail[0] {
		case "cgroup2":
			if h.v2 == "" {
				h.v2 = dir
			}
		case "cgroup":
			h.addV1(hierarchy{dir: dir, prefix: prefix}, strings.Split(tail[2], ","))
		}
	}
	h.unified = h.v2 != "" && !slices.ContainsFunc(h.v1, func(t hierarchy) bool { return len(t.controllers) > 0 })
	if h.v2 != "" {
		// cgroup2 freezes without v1's traps: its frozen processes can be killed.
		h.v1 = slices.DeleteFunc(h.v1, func(t hierarchy) bool { return slices.Equal(t.controllers, []string{"freezer"}) })
	}
	// The spawner enters them in this order; see there.
	slices.SortStableFunc(h.v1, func(a, b hierarchy) int {
		return cmp.Compare(slices.Index(a.controllers, "memory"), slices.Index(b.controllers, "memory"))
	})
	return h
}

func (h *host) addV1(t hierarchy, options []string) {
	for _, o := range options {
		if slices.Contains(wanted, o) {
			t.controllers = append(t.controllers, o)
		}
		if name, ok := strings.CutPrefix(o, "name="); ok && name == "systemd" {
			t.name = name
		}
	}
	same := func(u hierarchy) bool { return slices.Equal(u.controllers, t.controllers) && u.name == t.name }
	if (len(t.controllers) > 0 || t.name != "") && !slices.ContainsFunc(h.v1, same) {
		h.v1 = append(h.v1, t)
	}
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// local turns a path of /proc/PID/cgroup into a directory.
func (t hierarchy) local(path string) string {
	if t.prefix != "/" {
		rest, ok := strings.CutPrefix(path, t.prefix)
		if !ok {
			rest = "/"
		}
		path = rest
	}
	return filepath.Join(t.dir, path)
}

// systemdRuns is sd_booted(3).
func systemdRuns() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}
