package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// write writes a control file in one call, as cgroupfs wants it.
func write(dir, file, value string) error {
	name := filepath.Join(dir, file)
	fd, err := ignoreEINTR(func() (int, error) { return unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := ignoreEINTR(func() (int, error) { return unix.Write(fd, []byte(value)) }); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return nil
}

func read(dir, file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b)), err
}

// readKey reads one number of a file with lines "key number".
func readKey(dir, file, key string) (uint64, error) {
	text, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), key+" "); ok {
			return strconv.ParseUint(rest, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s: %w", filepath.Join(dir, file), key, os.ErrNotExist)
}

func ignoreEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// makeDir makes a group and those above it; fill, when not nil, prepares each new one.
func makeDir(root, dir string, fill func(dir string) error) (made bool, err error) {
	err = unix.Mkdir(dir, 0o755)
	if errors.Is(err, unix.ENOENT) && dir != root {
		if _, err := makeDir(root, filepath.Dir(dir), fill); err != nil {
			return false, err
		}
		err = unix.Mkdir(dir, 0o755)
	}
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if fill != nil {
		if err := fill(dir); err != nil {
			return true, err
		}
	}
	return true, nil
}

// removeDir removes a group and the groups in it. EBUSY passes when the last process has just ended.
func removeDir(dir string, deadline time.Time) error {
	last := false
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		retry := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EINTR)
		if last || !retry {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		last = time.Now().After(deadline)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				if err := removeDir(filepath.Join(dir, e.Name()), deadline); err != nil {
					return err
				}
			}
		}
		if !last {
			time.Sleep(pause)
		}
	}
}

// pids reads cgroup.procs; a group that is gone has none.
func pids(dir string) ([]int, error) {
	text, err := read(dir, "cgroup.procs")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []int
	for field := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("read %s/cgroup.procs: %w", dir, err)
		}
		// 0 is a process outside our PID namespace. v1 counts a process in when one thread is: while it
		// starts something, that is us.
		if pid > 0 && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out, nil
}
