package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/leak"
)

const (
	// tick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
	tick = 10 * time.Millisecond
	// settled bounds the wait for processes that are ending.
	settled = 5 * time.Second
)

// cpu is the processor time of all that containerd ever started and of containerd itself, so far. Shims fall to us when
// their launchers end, with what their own children used, so nothing is missing once they have ended: cpu waits for
// those that are not among the idle.
func (b *bench) cpu(idle []leak.Process) (time.Duration, error) {
	for deadline := time.Now().Add(settled); ; time.Sleep(20 * time.Millisecond) {
		busy := slices.DeleteFunc(leak.Below(), func(p leak.Process) bool { return has(idle, p) })
		if len(busy) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("processor time: %v is still there", busy[0])
		}
	}
	time.Sleep(200 * time.Millisecond) // what has ended is reaped
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &r); err != nil {
		return 0, err
	}
	used := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.d.PID()))
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything: proc(5) counts utime, stime, cutime and cstime as 14 to 17.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	for _, f := range fields[14-3 : 17-2] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		used += time.Duration(n) * tick
	}
	return used, nil
}
