package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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
		runtime.LockOSThread() // for ever: the thread must not be used again
		if err = unix.Unshare(flag); err == nil {
			f, err = os.Open("/proc/thread-self/ns/" + name)
		}
	}()
	<-done
	return f, err
}

// SetSysctls writes sysctls of the namespaces that the process is in now, by their dotted names.
func SetSysctls(sysctls map[string]string) error {
	var wrong []error
	for name, value := range sysctls {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if !strings.HasPrefix(path, "/proc/sys/") || strings.Contains(name, "/..") {
			wrong = append(wrong, fmt.Errorf("sysctl %q: not a name", name))
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			wrong = append(wrong, fmt.Errorf("sysctl %s=%s: %w", name, value, err))
		}
	}
	return errors.Join(wrong...)
}
