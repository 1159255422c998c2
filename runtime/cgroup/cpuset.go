package cgroup

import "path/filepath"

// inheritCpuset fills a new v1 cpuset, which starts without processors and takes no process until it has some. A group
// above it that another pod has made just now may still be without: whoever needs it first fills it.
func inheritCpuset(root, dir string) error {
	parent := filepath.Dir(dir)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		above, err := read(parent, file)
		if err == nil && above == "" && parent != root {
			if err = inheritCpuset(root, parent); err == nil {
				above, err = read(parent, file)
			}
		}
		if err != nil {
			return err
		}
		if err := write(dir, file, above); err != nil {
			return err
		}
	}
	return nil
}
