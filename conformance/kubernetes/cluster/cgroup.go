package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies lists the mount points of all cgroup hierarchies, v1 and v2.
func hierarchies() ([]string, error) {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			all = append(all, f[1])
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return all, nil
}

// makeCgroups makes the cluster's cgroups in every hierarchy: one for its own processes, which this process
// enters, and one for each node's pods.
func makeCgroups(nodes []machine) error {
	tops, err := hierarchies()
	if err != nil {
		return err
	}
	for _, top := range tops {
		base := filepath.Join(top, Name)
		system := filepath.Join(base, "system")
		dirs := []string{base, system}
		for _, m := range nodes {
			dirs = append(dirs, filepath.Join(top, m.cgroup()))
		}
		for _, dir := range dirs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := prepareCgroup(dir); err != nil {
				return fmt.Errorf("prepare cgroup: %w", err)
			}
		}
		if err := os.WriteFile(filepath.Join(system, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// prepareCgroup makes a new cgroup fit for children: in v1 a cpuset is born empty, in v2 the parent has to
// hand its controllers down.
func prepareCgroup(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		was, err := os.ReadFile(filepath.Join(dir, file))
		if _, v2 := os.Stat(filepath.Join(dir, "cgroup.controllers")); err != nil || v2 == nil || len(bytes.TrimSpace(was)) > 0 {
			continue
		}
		from, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), from, 0); err != nil {
			return err
		}
	}
	parent := filepath.Dir(dir)
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // v1
	} else if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return err
		}
	}
	return nil
}

// cgroupDirs lists the cluster's cgroups, children before their parents.
func cgroupDirs() ([]string, error) {
	tops, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, top := range tops {
		err := filepath.WalkDir(filepath.Join(top, Name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// emptyCgroups kills whatever is in the cluster's cgroups and removes them.
func emptyCgroups() error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		dirs, err := cgroupDirs()
		if err != nil {
			return err
		}
		var failed error
		for _, dir := range dirs {
			// A frozen process would not die.
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
			raw, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, word := range strings.Fields(string(raw)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 1 && pid != os.Getpid() {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			}
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = err
			}
		}
		if failed == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroups: %w (a process in it cannot be killed?)", failed)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
