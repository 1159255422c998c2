package cgroup

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// BenchmarkLife shows what a group adds to starting a process: the median of each step, and of the same start without
// a group. On a busy machine the start itself waits for processor time of the group's share.
func BenchmarkLife(b *testing.B) {
	m := v1Manager(b)
	run := func(cmd *exec.Cmd) error {
		if err := cmd.Start(); err != nil {
			return err
		}
		return nil
	}
	limits := &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
	}
	steps := map[string][]time.Duration{}
	note := func(step string, from, to time.Time) { steps[step] = append(steps[step], to.Sub(from)) }
	for i := 0; b.Loop(); i++ {
		path := fmt.Sprintf("%s/bench%d", testParent, i)
		t0 := time.Now()
		cmd := exec.Command("/bin/true")
		if err := m.Spawn(cmd, run); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		g, err := m.Create(path, limits)
		if err != nil {
			b.Fatal(err)
		}
		t3 := time.Now()
		cmd = exec.Command("/bin/true")
		if err := g.Spawn(cmd, run); err != nil {
			b.Fatal(err)
		}
		t4 := time.Now()
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		t5 := time.Now()
		if _, err := g.Stats(); err != nil {
			b.Fatal(err)
		}
		t6 := time.Now()
		if err := g.Kill(); err != nil {
			b.Fatal(err)
		}
		t7 := time.Now()
		if err := g.Delete(); err != nil {
			b.Fatal(err)
		}
		t8 := time.Now()
		note("bare-spawn", t0, t1)
		note("create", t2, t3)
		note("spawn", t3, t4)
		note("stats", t5, t6)
		note("kill", t6, t7)
		note("delete", t7, t8)
	}
	for step, d := range steps {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), step+"-us")
	}
}
