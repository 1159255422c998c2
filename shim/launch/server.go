package launch

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// serverName is the pod server's binary, installed beside the launcher.
const serverName = "hachi-shim"

const installHint = "install " + serverName + " beside containerd-shim-hachi-v1 or on containerd's PATH"

// server is a pod's server about to be started.
type server struct {
	path   string // executable
	dir    string // working directory: the bundle
	args   []string
	env    []string
	spaces []namespace
	socket int // listening socket, the server's descriptor 3
}

// serverPath is the server beside the running executable, wherever a symlink on PATH led from; a launcher that was
// copied elsewhere finds it on PATH.
func serverPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fail("find "+serverName, "", unwrapPath(err), "")
	}
	beside := filepath.Join(filepath.Dir(self), serverName)
	if executable(beside) {
		return beside, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// A relative entry would mean the bundle, whose content is not containerd's alone.
		if path := filepath.Join(dir, serverName); filepath.IsAbs(dir) && executable(path) {
			return path, nil
		}
	}
	return beside, nil // whoever starts it says what is missing
}

func executable(path string) bool {
	const mayExecute = 1 // X_OK of access(2)
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && syscall.Access(path, mayExecute) == nil
}

// start executes the server as leader of its own session, with nothing but /dev/null and its socket open,
// inside its namespaces. It returns when the new program runs, or with the reason why it does not.
func (s *server) start() (pid int, err error) {
	raiseOOMScore()
	// A descriptor that containerd leaked into us would live as long as the pod. Before Linux 5.11 this
	// fails, and the flags that everybody sets on opening have to do.
	const sysCloseRange, setCloexec = 436, 4
	_, _, _ = syscall.Syscall(sysCloseRange, 3, 1<<31-1, setCloexec)

	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, fail("start server", "/dev/null", err, "")
	}
	defer syscall.Close(null)
	attr := &syscall.ProcAttr{
		Dir:   s.dir,
		Env:   onOneProcessor(s.env),
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(s.socket)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	fork := func() (int, error) {
		pid, err := syscall.ForkExec(s.path, append([]string{s.path}, s.args...), attr)
		if err == nil {
			return pid, nil
		}
		next := ""
		if err == syscall.ENOENT || err == syscall.EACCES {
			next = installHint
		}
		return 0, fail("start server", s.path, err, next)
	}
	if len(s.spaces) == 0 {
		return fork()
	}
	// Only one thread changes its namespaces. It is never unlocked, so nothing else ever runs on it.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = enter(s.spaces); err == nil {
			pid, err = fork()
		}
	}()
	<-done
	return pid, err
}

// onOneProcessor says to Go's runtime in a server, which mostly waits, that one processor is enough: more would only spin
// while one of its threads starts a process, in every pod of a node.
func onOneProcessor(env []string) []string {
	const name = "GOMAXPROCS="
	one := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, name) {
			one = append(one, v)
		}
	}
	return append(one, name+"1")
}

// died reports why a server that start returned is not running any more, or nil if it is.
func died(path string, pid int) error {
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err != nil || got != pid {
		return nil
	}
	cause := "exited at once with status " + strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		cause = "ended at once by signal " + strconv.Itoa(int(status.Signal()))
	}
	return fail("start server", path, errors.New(cause), "")
}

// raiseOOMScore makes the launcher, and so the server, a better victim than containerd by one point, as
// containerd's own shims do. Without the right to do so the inherited score has to do.
func raiseOOMScore() {
	const path, highest = "/proc/self/oom_score_adj", 1000
	b, err := readFile(path, 64)
	if err != nil {
		return
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err == nil && score < highest {
		_ = os.WriteFile(path, []byte(strconv.Itoa(score+1)), 0)
	}
}
