package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter moves the whole process, every thread of it, into the network namespace at netns (empty keeps the present
// one) and into new namespaces of the kinds in fresh. Children and new threads follow.
func enter(netns string, fresh int) error {
	var files []*os.File
	var kinds []int
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if netns != "" {
		f, err := os.Open(netns)
		if err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		files, kinds = append(files, f), append(kinds, unix.CLONE_NEWNET)
	}
	for _, k := range []struct {
		flag int
		name string
	}{{unix.CLONE_NEWUTS, "uts"}, {unix.CLONE_NEWIPC, "ipc"}} {
		if fresh&k.flag == 0 {
			continue
		}
		f, err := create(k.flag, k.name)
		if err != nil {
			return fmt.Errorf("create %s namespace: %w", k.name, err)
		}
		files, kinds = append(files, f), append(kinds, k.flag)
	}
	for i, f := range files {
		// setns(2) moves one thread; a Go program has several.
		if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, f.Fd(), uintptr(kinds[i]), 0); errno != 0 {
			return fmt.Errorf("enter namespace %s: %w", f.Name(), errno)
		}
	}
	return nil
}

// create makes a namespace on a thread of its own, which then ends; the file keeps the namespace.
func create(flag int, name string) (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f, err = unshare(flag, name)
			return // still locked, so the thread is not used again
		}
		// The main thread never ends. While we hold it, another goroutine gets another thread.
		defer runtime.UnlockOSThread()
		f, err = create(flag, name)
	}()
	<-done
	return f, err
}

// unshare moves this thread into a new namespace.
func unshare(flag int, name string) (*os.File, error) {
	if err := unix.Unshare(flag); err != nil {
		return nil, err
	}
	return os.Open("/proc/thread-self/ns/" + name)
}
