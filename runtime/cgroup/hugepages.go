package cgroup

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// hugepageSizes are this machine's, as control files have them in their names: "2MB", "1GB".
var hugepageSizes = sync.OnceValue(func() []string {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil // a kernel without
	}
	var sizes []string
	for _, e := range entries {
		if size, ok := hugepageSize(e.Name()); ok {
			sizes = append(sizes, size)
		}
	}
	return sizes
})

// hugepageSize turns the name of sysfs, "hugepages-2048kB", into that of control files.
func hugepageSize(name string) (string, bool) {
	digits, ok := strings.CutSuffix(strings.TrimPrefix(name, "hugepages-"), "kB")
	if !ok {
		return "", false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case err != nil:
		return "", false
	case n >= 1<<20:
		return strconv.FormatUint(n>>20, 10) + "GB", true
	case n >= 1<<10:
		return strconv.FormatUint(n>>10, 10) + "MB", true
	}
	return strconv.FormatUint(n, 10) + "KB", true
}
