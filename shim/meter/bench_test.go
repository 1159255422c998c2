package meter

import (
	"fmt"
	"os"
	"testing"
)

// BenchmarkContainer is what an account adds to a container's life, on a node where the programs are loaded: to a pod's
// first container, in a new server, and to later ones.
func BenchmarkContainer(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: rerun as root")
	}
	root := fmt.Sprintf("/sys/fs/bpf/hachi-meter-%d", os.Getpid())
	defer os.RemoveAll(root)
	g := group(b, "bench")
	one := func(b *testing.B, m *Meter) {
		a := m.Attach("bench", nil, g.UnifiedPath(), g.Dirs())
		a.Ready(b.Context())
		if a.by == nil {
			b.Fatal("it is not counted")
		}
		a.Undo()
	}
	b.Run("first", func(b *testing.B) {
		one(b, newMeter(b, here(root))) // loads
		for b.Loop() {
			m := newMeter(b, here(root))
			one(b, m)
			m.Close()
		}
	})
	b.Run("later", func(b *testing.B) {
		m := newMeter(b, here(root))
		for b.Loop() {
			one(b, m)
		}
	})
}
