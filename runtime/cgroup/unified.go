package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// delegated are the cgroup2 controllers that a container's group gets, for its limits or its metrics.
var delegated = []string{"cpu", "cpuset", "io", "memory", "pids", "hugetlb"}

// enableControllers turns them on in every group above leaf, as far as the machine has them.
func enableControllers(root, leaf string) error {
	dir := root
	for part := range strings.SplitSeq(strings.TrimPrefix(leaf, root+"/"), "/") {
		available, err := read(dir, "cgroup.controllers")
		if err != nil {
			return err
		}
		enabled, err := read(dir, "cgroup.subtree_control")
		if err != nil {
			return err
		}
		var missing []string
		for _, c := range delegated {
			if slices.Contains(strings.Fields(available), c) && !slices.Contains(strings.Fields(enabled), c) {
				missing = append(missing, "+"+c)
			}
		}
		if err := enable(dir, missing); err != nil {
			return fmt.Errorf("enable controllers: %w (the group above must hold no processes itself)", err)
		}
		dir = filepath.Join(dir, part)
	}
	return nil
}

// enable tries all at once and then one by one: "cpu" is refused while real-time processes run, and the others shall
// not suffer for it. A limit that needs the missing one says so later.
func enable(dir string, controllers []string) error {
	if len(controllers) == 0 || write(dir, "cgroup.subtree_control", strings.Join(controllers, " ")) == nil {
		return nil
	}
	var errs []error
	for _, c := range controllers {
		if err := write(dir, "cgroup.subtree_control", c); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(controllers) {
		return errors.Join(errs...)
	}
	return nil
}
