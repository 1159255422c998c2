package bpfenv

import (
	"testing"

	"github.com/hachi-run/hachi/internal/probe"
	"github.com/hachi-run/hachi/internal/testenv"
)

// CgroupRoot returns where cgroup2 is mounted, be it at /sys/fs/cgroup or beside cgroup v1.
func CgroupRoot(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir, err := probe.Cgroup2()
	if err != nil {
		t.Skipf("needs cgroup2: %v", err)
	}
	return dir
}
