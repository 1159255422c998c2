// Package leak compares what the kernel holds before and after a test: processes, cgroups, mounts,
// network namespaces, unix sockets, BPF links and pins, entries of the ledger, and files.
package leak

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Scope says what belongs to the test; a machine does other things at the same time.
type Scope struct {
	// Marks are words that only this test puts into names: its directory, its containerd namespace. A new
	// cgroup, mount, socket, ledger entry, or BPF pin or link of a cgroup, counts when its name holds one of them. A pin
	// or link of a cgroup that is gone always does.
	Marks []string
	// Spare are the names of cgroups, mounts, sockets and files that may stay, as in State without the kind.
	Spare func(name string) bool
	// Trees are directories in which every new file counts.
	Trees []string
}

// State is what one Take found, by kind and name.
type State map[string]struct{}

// Take lists what is there now. Processes are the descendants of this process that are not in its own
// process group; see package reap for why orphans are among them.
func Take(s Scope) State {
	st := State{}
	add := func(kind, name string) {
		if s.Spare == nil || !s.Spare(name) {
			st[kind+" "+name] = struct{}{}
		}
	}
	for _, p := range Below() {
		add("process", p.String())
	}
	for _, c := range cgroups() {
		if s.marked(c) {
			add("cgroup", c)
		}
	}
	for _, m := range mounts() {
		// nsfs: a network namespace that somebody keeps by a bind mount has no name of ours.
		if s.marked(m) || strings.Contains(m, " nsfs ") {
			add("mount", m)
		}
	}
	for _, n := range listDir("/run/netns") {
		add("netns", n)
	}
	for _, u := range unixSockets() {
		if s.marked(u) {
			add("socket", u)
		}
	}
	for _, e := range ledgerEntries() {
		if s.marked(e) {
			add("ledger entry", e)
		}
	}
	names := numbered()
	for _, p := range pins(names) {
		if s.marked(p) || orphaned(p) {
			add("pin", p)
		}
	}
	for _, l := range links(names) {
		if s.marked(l) || orphaned(l) {
			add("link", l)
		}
	}
	for _, tree := range s.Trees {
		for _, f := range files(tree) {
			if f != ledgerDir && !strings.HasPrefix(f, ledgerDir+"/") {
				add("file", f)
			}
		}
	}
	return st
}

// Since returns what is there now and was not in before, waiting up to grace for it to go: a kernel frees
// cgroups and a daemon its sockets a moment after the call that asked for it.
func Since(before State, s Scope, grace time.Duration) []string {
	for deadline := time.Now().Add(grace); ; time.Sleep(20 * time.Millisecond) {
		var left []string
		for name := range Take(s) {
			if _, ok := before[name]; !ok {
				left = append(left, name)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			sort.Strings(left)
			return left
		}
	}
}

func (s Scope) marked(name string) bool {
	for _, m := range s.Marks {
		if strings.Contains(name, m) {
			return true
		}
	}
	return false
}

// cgroups lists the directories of every hierarchy, v1 and v2.
func cgroups() []string {
	var dirs []string
	for _, m := range mounts() {
		f := strings.Fields(m)
		if len(f) > 1 && (f[1] == "cgroup" || f[1] == "cgroup2") {
			filepath.WalkDir(f[0], func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	return dirs
}

// mounts lists "mountpoint fstype source options" of this mount namespace; proc(5), mountinfo.
func mounts() []string {
	var all []string
	for _, line := range lines("/proc/self/mountinfo") {
		head, tail, ok := strings.Cut(line, " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if ok && len(h) > 4 && len(t) > 1 {
			all = append(all, fmt.Sprintf("%s %s %s", h[4], strings.Join(t, " "), h[3]))
		}
	}
	return all
}

// unixSockets lists the bound, listening sockets of this network namespace that have a name.
func unixSockets() []string {
	var names []string
	for _, line := range lines("/proc/net/unix") {
		if f := strings.Fields(line); len(f) == 8 && f[3] == "00010000" {
			names = append(names, f[7])
		}
	}
	return names
}

func files(tree string) []string {
	var all []string
	filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != tree {
			all = append(all, path)
		}
		return nil
	})
	return all
}

func listDir(dir string) []string {
	entries, _ := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func lines(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		all = append(all, sc.Text())
	}
	return all
}
