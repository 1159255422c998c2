package engine

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// throttlePeriod is how often the budget is looked at.
	throttlePeriod = 10 * time.Millisecond
	// throttleBurst is how much idle time may be saved up for later.
	throttleBurst = 100 * time.Millisecond
)

// Throttle holds the engine to cpus processors' worth of time, without a cgroup and so without privileges: it
// stops the process whenever it is ahead of its budget. It returns when the engine ends or ctx does, and leaves the
// engine running.
func (p *Process) Throttle(ctx context.Context, cpus float64) {
	tick := time.NewTicker(throttlePeriod)
	defer tick.Stop()
	defer func() { _ = p.Signal(syscall.SIGCONT) }() // it is gone already when this fails

	var budget time.Duration
	used, at, stopped := p.cpuTime(), time.Now(), false
	for {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		nowUsed, now := p.cpuTime(), time.Now()
		budget += time.Duration(float64(now.Sub(at))*cpus) - (nowUsed - used)
		budget = min(budget, time.Duration(float64(throttleBurst)*cpus))
		used, at = nowUsed, now
		switch {
		case budget < 0 && !stopped:
			stopped = p.Signal(syscall.SIGSTOP) == nil
		case budget >= 0 && stopped:
			stopped = p.Signal(syscall.SIGCONT) != nil
		}
	}
}

// cpuTime is what all threads of the process have used. The clock's number is made as clock_getcpuclockid(3) makes it.
func (p *Process) cpuTime() time.Duration {
	const schedClock = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.process.Pid<<3|schedClock), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
