package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/runtime/engine"
)

// quotaPeriod is CFS's default, in microseconds.
const quotaPeriod = 100_000

// quota measures how far a guest that spins gets from its limit in each of several seconds, under a cgroup as in a pod, and
// under hachi run, which has none.
func (l *lab) quota(ctx context.Context) ([]row, error) {
	var rows []row
	for _, cpus := range []float64{0.2, 0.5} {
		r := row{what: fmt.Sprintf("CPU limit of %g kept by hachi run, error", cpus), unit: "%", atMost: 10}
		e, err := l.start(ctx, l.spin, nil, "")
		if err != nil {
			return nil, err
		}
		if err := e.Run(); err == nil {
			go e.Throttle(ctx, cpus) // ends with the engine
			r.ours = deviations(e.Pid(), cpus)
		}
		end(e)
		rows = append(rows, r)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "engine: not root: CPU limits by cgroup are left out")
		return rows, nil
	}
	m, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	for _, cpus := range []float64{0.2, 0.5} {
		r := row{what: fmt.Sprintf("CPU limit of %g kept by its cgroup, error", cpus), unit: "%", atMost: 10}
		period, limit := uint64(quotaPeriod), int64(cpus*quotaPeriod)
		g, err := m.Create(fmt.Sprintf("/hachi-bench-%d", os.Getpid()), &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &limit, Period: &period}})
		if err != nil {
			return nil, err
		}
		e, err := l.start(ctx, l.spin, inside(g), "")
		if err == nil {
			if err = e.Run(); err == nil {
				r.ours = deviations(e.Pid(), cpus)
			}
			end(e)
		}
		if err2 := g.Delete(); err == nil {
			err = err2
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// inside starts engines in a cgroup.
func inside(g *cgroup.Group) engine.Starter {
	return func(cmd *exec.Cmd) (func() int, error) {
		if err := g.Spawn(cmd, (*exec.Cmd).Start); err != nil {
			return nil, err
		}
		return func() int {
			_ = cmd.Wait() // the state says it all
			if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
				return 128 + int(s.Signal())
			}
			return cmd.ProcessState.ExitCode()
		}, nil
	}
}

// deviations are the distances from the limit in each of five seconds, in percent of it, after one to settle.
func deviations(pid int, cpus float64) (all []float64) {
	time.Sleep(time.Second)
	for range 5 {
		used, at := cpuTime(pid), time.Now()
		time.Sleep(time.Second)
		share := (cpuTime(pid) - used).Seconds() / time.Since(at).Seconds()
		all = append(all, 100*math.Abs(share/cpus-1))
	}
	return all
}

// cpuTime is what all threads of a process have used; clock_getcpuclockid(3) makes the clock's number so.
func cpuTime(pid int) time.Duration {
	const schedClock = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
