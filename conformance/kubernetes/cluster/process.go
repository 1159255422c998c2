package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is a daemon: a command that is started again one second after it ended, however it ended, as
// systemd does with Restart=always.
type program struct {
	name string
	args []string
	env  []string
	log  string // file, appended to
	pid  string // file that gets its process id; none when empty
}

// keeper runs programs. As a node's first process it also inherits orphans, so one goroutine waits for
// all children and os/exec for none.
type keeper struct {
	mu    sync.Mutex
	exits map[int]chan unix.WaitStatus // guarded by mu; the children that somebody waits for
}

func newKeeper() *keeper {
	k := &keeper{exits: map[int]chan unix.WaitStatus{}}
	go k.reap()
	return k
}

func (k *keeper) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch err {
		case nil:
			k.mu.Lock()
			if c, ok := k.exits[pid]; ok {
				delete(k.exits, pid)
				c <- status
			}
			k.mu.Unlock()
		case unix.ECHILD:
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// start starts a command that dies with this process; the channel gets its end.
func (k *keeper) start(cmd *exec.Cmd) (<-chan unix.WaitStatus, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c := make(chan unix.WaitStatus, 1)
	k.mu.Lock() // the child may end before it is in the map
	defer k.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k.exits[cmd.Process.Pid] = c
	return c, nil
}

// run runs a command to its end; output is what it printed.
func (k *keeper) run(cmd *exec.Cmd) (output string, err error) {
	f, err := os.CreateTemp("", "out")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	c, err := k.start(cmd)
	if err != nil {
		return "", err
	}
	status := <-c
	raw, err := os.ReadFile(f.Name())
	if err == nil && (!status.Exited() || status.ExitStatus() != 0) {
		err = fmt.Errorf("%s: %s: %s", cmd.Path, describe(status), raw)
	}
	return string(raw), err
}

// keep starts p and keeps it running until this process ends.
func (k *keeper) keep(p program) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	start := func() (<-chan unix.WaitStatus, error) {
		cmd := exec.Command(p.args[0], p.args[1:]...)
		cmd.Env = append(os.Environ(), p.env...)
		cmd.Stdout, cmd.Stderr = log, log
		c, err := k.start(cmd)
		if err == nil && p.pid != "" {
			err = p.writePID(cmd.Process.Pid)
		}
		return c, err
	}
	c, err := start()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		for {
			status := <-c
			fmt.Fprintf(os.Stderr, "%s %s: %s; starting it again\n", time.Now().Format(time.TimeOnly), p.name, describe(status))
			time.Sleep(time.Second)
			for c, err = start(); err != nil; c, err = start() {
				fmt.Fprintf(os.Stderr, "%s %s: %v\n", time.Now().Format(time.TimeOnly), p.name, err)
				time.Sleep(time.Second)
			}
		}
	}()
	return nil
}

func (p program) writePID(pid int) error {
	if err := os.MkdirAll(filepath.Dir(p.pid), 0o711); err != nil {
		return err
	}
	return os.WriteFile(p.pid, []byte(strconv.Itoa(pid)), 0o644)
}

func describe(s unix.WaitStatus) string {
	if s.Signaled() {
		return "killed by " + unix.SignalName(s.Signal())
	}
	return fmt.Sprintf("exit code %d", s.ExitStatus())
}
