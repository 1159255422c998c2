package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a group has used.
type Usage struct {
	// CPU is the time on processors since the group was made, of processes that have ended too.
	CPU time.Duration
	// Memory is what it holds now, in bytes, its share of the page cache included.
	Memory uint64
}

// ReadUsage reads the usage of a group that somebody else made, by its directories (Group.Dirs) and in either version's
// files. What no directory accounts for is zero. The error is os.ErrNotExist when all of them are gone.
func ReadUsage(dirs []string) (Usage, error) {
	if !slices.ContainsFunc(dirs, exists) {
		return Usage{}, fmt.Errorf("read usage of cgroup %v: %w", dirs, os.ErrNotExist)
	}
	cpu, err := firstOf(dirs, cpuUsed)
	if err != nil {
		return Usage{}, fmt.Errorf("read CPU time of cgroup %v: %w", dirs, err)
	}
	memory, err := firstOf(dirs, memoryHeld)
	if err != nil {
		return Usage{}, fmt.Errorf("read memory of cgroup %v: %w", dirs, err)
	}
	return Usage{CPU: time.Duration(cpu), Memory: memory}, nil
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// firstOf is the value that the first of dirs accounts for; 0 when none does.
func firstOf(dirs []string, value func(dir string) (uint64, error)) (uint64, error) {
	for _, dir := range dirs {
		n, err := value(dir)
		if err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return n, err
		}
	}
	return 0, nil
}

// Populated tells whether a process is in the group with these directories, or in a group below it.
func Populated(dirs []string) bool {
	for _, dir := range dirs {
		if n, err := readKey(dir, "cgroup.events", "populated"); err == nil && n == 1 {
			return true
		}
		if text, err := read(dir, "cgroup.procs"); err == nil && text != "" {
			return true
		}
	}
	return false
}

// cpuUsed reads v1's cpuacct or cgroup2's cpu.stat, which needs no controller, in nanoseconds.
func cpuUsed(dir string) (uint64, error) {
	text, err := read(dir, "cpuacct.usage")
	if err == nil {
		return strconv.ParseUint(text, 10, 64)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	n, err := readKey(dir, "cpu.stat", "usage_usec")
	return n * uint64(time.Microsecond), err
}

func memoryHeld(dir string) (uint64, error) {
	text, err := read(dir, "memory.usage_in_bytes")
	if errors.Is(err, os.ErrNotExist) {
		text, err = read(dir, "memory.current")
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}
