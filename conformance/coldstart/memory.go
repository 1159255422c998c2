package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/leak"
)

// memory measures the proportional set size of every process that an idle container brings, shims included, as
// the mean over ten of them.
func (b *bench) memory(ctx context.Context, _ int) ([]row, error) {
	ctx = b.ctx(ctx)
	const many = 10
	var rows []row
	for _, c := range []struct{ program, what string }{{"idle", "idle C container, PSS"}, {"http", "idle Go HTTP container, PSS"}} {
		r := row{what: c.what, unit: "MB", bar: map[string]float64{"idle": 1, "http": 2}[c.program]}
		if err := b.unpack(ctx, c.program); err != nil {
			return nil, err
		}
		for _, s := range sides {
			before := leak.Below()
			var tasks []*task
			for range many {
				f := newFirst()
				t, err := b.start(ctx, s, c.program, b.id(s), f)
				if err != nil {
					return nil, fmt.Errorf("%s %s: %w", s.name, c.program, err)
				}
				select {
				case <-f.at:
				case <-time.After(20 * time.Second):
					return nil, fmt.Errorf("%s %s: no first byte within 20 s", s.name, c.program)
				}
				tasks = append(tasks, t)
			}
			time.Sleep(2 * time.Second) // start-up garbage is not what an idle pod costs
			var sum float64
			for _, p := range leak.Below() {
				if !has(before, p) {
					sum += pss(p.PID)
				}
			}
			r.add(s, sum/many)
			for _, t := range tasks {
				if err := t.stop(ctx); err != nil {
					return nil, err
				}
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func has(all []leak.Process, p leak.Process) bool {
	for _, q := range all {
		if p.PID == q.PID && p.Start == q.Start {
			return true
		}
	}
	return false
}

// pss reads a process's proportional set size in megabytes; proc(5), smaps_rollup.
func pss(pid int) float64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib * 1024 / 1e6
		}
	}
	return 0
}
