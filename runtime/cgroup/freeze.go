package cgroup

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settleWait is how long freezing and killing may take; processes in uninterruptible sleep are late.
const settleWait = 10 * time.Second

// Freeze stops all processes of the group and returns when they stand. After 10 s it gives up and thaws.
func (g *Group) Freeze() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.freeze()
	if err != nil {
		return errors.Join(fmt.Errorf("freeze cgroup %s: %w", g.path, err), g.thaw())
	}
	g.frozen = true
	return nil
}

// Thaw lets them go on.
func (g *Group) Thaw() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.thaw()
}

func (g *Group) freeze() error {
	deadline := time.Now().Add(settleWait)
	if g.v2 != "" {
		if err := write(g.v2, "cgroup.freeze", "1"); err != nil {
			return err
		}
		return waitEvent(g.v2, "frozen", 1, deadline)
	}
	dir, ok := g.dir("freezer")
	if !ok {
		return missing("freezer")
	}
	return poll(deadline, "frozen", func() (bool, error) {
		// A process that forks at the wrong moment leaves it at FREEZING until it is told again.
		if err := write(dir, "freezer.state", "FROZEN"); err != nil {
			return false, err
		}
		state, err := read(dir, "freezer.state")
		return state == "FROZEN", err
	})
}

func (g *Group) thaw() error {
	var err error
	if g.v2 != "" {
		err = write(g.v2, "cgroup.freeze", "0")
	} else if dir, ok := g.dir("freezer"); ok {
		err = write(dir, "freezer.state", "THAWED")
	}
	if err != nil {
		return fmt.Errorf("thaw cgroup %s: %w", g.path, err)
	}
	g.frozen = false
	return nil
}

func (g *Group) isFrozen() bool {
	if g.v2 != "" {
		state, _ := read(g.v2, "cgroup.freeze")
		return state == "1"
	}
	dir, _ := g.dir("freezer")
	state, _ := read(dir, "freezer.state")
	return state == "FROZEN" || state == "FREEZING"
}

// Kill sends SIGKILL to all processes of the group, frozen or not, and returns when none is left; who started
// them still has to reap them. After 10 s it gives up and names those that remain. A group that is
// gone is empty.
func (g *Group) Kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	deadline := time.Now().Add(settleWait)
	err := g.kill(deadline)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		left, _ := g.pidsLocked()
		return fmt.Errorf("kill cgroup %s (processes %v): %w", g.path, left, err)
	}
	return nil
}

func (g *Group) kill(deadline time.Time) error {
	if g.v2 == "" {
		return g.killEach(deadline)
	}
	err := write(g.v2, "cgroup.kill", "1")
	if errors.Is(err, os.ErrNotExist) { // before Linux 5.14, or no such group
		return g.killEach(deadline)
	}
	if err != nil {
		return err
	}
	if g.frozen {
		if err := g.thaw(); err != nil {
			return err
		}
	}
	return waitEvent(g.v2, "populated", 0, deadline)
}

// killEach kills what it finds until it finds nothing: a process may have forked meanwhile.
func (g *Group) killEach(deadline time.Time) error {
	return poll(deadline, "empty", func() (bool, error) {
		list, err := pids(g.main())
		if err != nil || len(list) == 0 {
			return true, err
		}
		for _, pid := range list {
			if err := g.killOne(pid); err != nil {
				return false, err
			}
		}
		// v1 keeps frozen processes from dying.
		return false, g.thaw()
	})
}

// killOne does not hit a stranger that got the number meanwhile: the descriptor stands for one process, and that one
// is asked to be still in the group.
func (g *Group) killOne(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	list, err := pids(g.main())
	if err != nil {
		return err
	}
	for _, now := range list {
		if now != pid {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}

// waitEvent waits for a value in cgroup.events.
func waitEvent(dir, key string, want uint64, deadline time.Time) error {
	return poll(deadline, key, func() (bool, error) {
		n, err := readKey(dir, "cgroup.events", key)
		return n == want, err
	})
}

// poll asks until done or the deadline, first every 50 us: most waits end within a scheduler tick.
func poll(deadline time.Time, what string, done func() (bool, error)) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not %s after %v", what, settleWait)
		}
		time.Sleep(pause)
	}
}
