package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Locate finds the directories of the groups that a process is in, whoever made them, and which of them is in the
// cgroup2 tree: "" on a machine without one, or when the process shares that group with this one.
func (m *Manager) Locate(pid int) (unified string, dirs []string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", nil, fmt.Errorf("find cgroups of process %d: %w", pid, err)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", nil, fmt.Errorf("find cgroups of process %d: %w", pid, err)
	}
	for _, t := range m.host.v1 {
		dirs = append(dirs, t.home(string(text)))
	}
	if path, ok := unifiedPath(string(text)); ok && m.host.v2 != "" {
		if own, _ := unifiedPath(string(self)); own != path {
			unified = filepath.Join(m.host.v2, path)
			dirs = append(dirs, unified)
		}
	}
	return unified, dirs, nil
}

// unifiedPath finds the cgroup2 group in the text of /proc/PID/cgroup.
func unifiedPath(text string) (string, bool) {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, true
		}
	}
	return "", false
}
