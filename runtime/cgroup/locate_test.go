package cgroup

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLocate(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "locate")
		child := spawn(t, g, "sleep")
		unified, dirs, err := m.Locate(child.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(g.v1)
		if g.v2 != "" {
			want = append(want, g.v2)
		}
		if diff := cmp.Diff(want, dirs); diff != "" || unified != g.UnifiedPath() {
			t.Errorf("unified %q, want %q; directories (-want +got):\n%s", unified, g.UnifiedPath(), diff)
		}
		if unified, _, err := m.Locate(os.Getpid()); err != nil || unified != "" {
			t.Errorf("our own group is nobody else's: %q, %v", unified, err)
		}
	})
	m := newManager(testHosts()["real"], Options{})
	defer m.Close()
	if _, _, err := m.Locate(1 << 30); err == nil {
		t.Error("a process that cannot be was found")
	}
}
