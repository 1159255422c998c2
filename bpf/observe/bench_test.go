package observe_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// BenchmarkAttach is what observing adds to a pod's life when the programs are loaded: attach and detach by an observer
// that is open, and with opening one, as each pod's own process does.
func BenchmarkAttach(b *testing.B) {
	root := filepath.Join(bpfenv.BPFFS(b), "hachi")
	warm := openAt(b, root)
	cgroup := bpfenv.Cgroup(b)
	cycle := func(b *testing.B, o *observe.Observer) {
		id, err := o.Attach(cgroup)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := o.Detach(id); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("open", func(b *testing.B) {
		median(b, func() { cycle(b, warm) })
	})
	b.Run("with-open", func(b *testing.B) {
		median(b, func() {
			o, err := observe.Open(b.Context(), observe.Options{Root: root})
			if err != nil {
				b.Fatal(err)
			}
			cycle(b, o)
			if err := o.Close(); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("read", func(b *testing.B) {
		id, err := warm.Attach(cgroup)
		if err != nil {
			b.Fatal(err)
		}
		median(b, func() {
			if _, err := warm.Read(id); err != nil {
				b.Fatal(err)
			}
		})
		if _, err := warm.Detach(id); err != nil {
			b.Fatal(err)
		}
	})
}

// median reports the middle of the rounds' times, which says more than the mean on a machine that does other things.
func median(b *testing.B, f func()) {
	b.ReportAllocs()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		f()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us/op")
}
