package cgroup

import (
	"strconv"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Kubelet sets both limits to one value, and changes both while the pod runs, up and down.
func TestResizeV1(t *testing.T) {
	m := v1Manager(t)
	both := func(mib int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(mib << 20), Swap: ptr(mib << 20)}}
	}
	g, err := m.Create(testParent+"/resize", both(64))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	dir, _ := g.dir("memory")
	for _, mib := range []int64{128, 512, 96} {
		if err := g.Update(both(mib)); err != nil {
			t.Fatalf("%d MiB: %v", mib, err)
		}
		if got, err := read(dir, "memory.limit_in_bytes"); err != nil || got != strconv.FormatInt(mib<<20, 10) {
			t.Errorf("memory.limit_in_bytes is %s, %v; want %d MiB", got, err, mib)
		}
	}
}
