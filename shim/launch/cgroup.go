package launch

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// thaw lets frozen processes of a cgroup go on, because in a frozen cgroup v1 not even SIGKILL ends them.
func thaw(dir string) {
	for file, word := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		writeControl(filepath.Join(dir, file), word)
	}
}

// writeControl writes to a control file of a cgroup if it is there; the caller sees by other means
// whether it helped.
func writeControl(path, word string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString(word)
	_ = f.Close()
}

// removeCgroup removes a cgroup directory and everything in it, processes too. A directory that is gone
// is fine; one that is no cgroup, or the root of a hierarchy, is an error and left alone.
func removeCgroup(dir string, deadline time.Time) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return fail("remove cgroup", dir, errors.New("not a clean absolute path"), "")
	}
	var st, parent syscall.Stat_t
	switch err := syscall.Lstat(dir, &st); err {
	case nil:
	case syscall.ENOENT, syscall.ENOTDIR:
		return nil
	default:
		return fail("remove cgroup", dir, err, "")
	}
	var fs syscall.Statfs_t
	const v1, v2 = 0x27e0eb, 0x63677270 // CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC
	err := syscall.Statfs(dir, &fs)
	if err == nil {
		err = syscall.Lstat(filepath.Dir(dir), &parent)
	}
	if err != nil {
		return fail("remove cgroup", dir, err, "")
	}
	if fs.Type != v1 && fs.Type != v2 || st.Mode&syscall.S_IFMT != syscall.S_IFDIR || st.Dev != parent.Dev {
		return fail("remove cgroup", dir, errors.New("not a cgroup below the root of its hierarchy"), "")
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := syscall.Rmdir(dir)
		if err == nil || err == syscall.ENOENT {
			return nil
		}
		if err != syscall.EBUSY && err != syscall.ENOTEMPTY || time.Now().After(deadline) {
			return fail("remove cgroup", dir, err, "")
		}
		killCgroup(dir)
		if err := removeChildren(dir, deadline); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

func removeChildren(dir string, deadline time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // gone, then the next rmdir says so
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name()), deadline); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyCgroup kills the processes in a cgroup and waits for their end until deadline. Somebody else reaps them: a
// zombie is in no cgroup.procs.
func emptyCgroup(dir string, deadline time.Time) {
	for pause := time.Millisecond; killCgroup(dir) > 0 && time.Now().Before(deadline); pause = min(2*pause, 20*time.Millisecond) {
		time.Sleep(pause)
	}
}

// killCgroup sends SIGKILL to the processes in a cgroup, and returns how many it still has.
func killCgroup(dir string) int {
	thaw(dir)
	writeControl(filepath.Join(dir, "cgroup.kill"), "1") // cgroup2, Linux 5.14
	b, err := readFile(filepath.Join(dir, "cgroup.procs"), 1<<20)
	if err != nil {
		return 0
	}
	processes := bytes.Fields(b)
	for _, field := range processes {
		// 0 stands for a process of a pid namespace above ours; for kill it would mean ourselves.
		if pid, err := strconv.Atoi(string(field)); err == nil && pid > 1 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return len(processes)
}
