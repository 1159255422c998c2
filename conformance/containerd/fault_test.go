package containerd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/leak"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// TestFaults breaks one part and looks at the rest. Every fault must leave the machine as it was.
func TestFaults(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, c := range []tableCase{
			{"containerd is restarted", nil, restart((*world).stop)},
			{"containerd is killed", nil, restart((*world).crash)},
			{"the exit while containerd is away", nil, exitUnseen},
			{"shim is killed", nil, shimKilled},
			{"service of Linux containers is killed", func(k kind) bool { return k.hachi() && !k.wasm() }, linuxServiceKilled},
			{"shim is killed before start", nil, shimKilledCreated},
			{"shim is killed while containerd is away", nil, shimKilledUnseen},
			{"program is killed", nil, programKilled},
			{"program is killed before start", nil, programKilledCreated},
			{"bundle is removed", nil, bundleRemoved},
		} {
			if c.only != nil && !c.only(w.kind) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				c.run(t, w)
			})
		}
	})
}

func (w *world) stop(t *testing.T) {
	if err := w.d.Stop(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) crash(t *testing.T) {
	if err := w.d.Kill(); err != nil {
		t.Fatal(err)
	}
}

// back starts containerd again and finds the container's task there.
func (c *container) back(t *testing.T) {
	t.Helper()
	if err := c.w.d.Start(c.w.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connection to the new containerd", func() error {
		var err error
		c.c, err = c.w.c.LoadContainer(c.w.ctx, c.id)
		return err
	})
}

func (c *container) attach(t *testing.T) {
	t.Helper()
	task, err := c.c.Task(c.w.ctx, nil)
	if err != nil {
		t.Fatalf("after the restart: %v", err)
	}
	c.task = task
	if c.exit, err = task.Wait(c.w.ctx); err != nil {
		t.Fatal(err)
	}
}

func restart(end func(*world, *testing.T)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		c := w.start(t, "ready")
		c.stdout.await(t, "ready")
		pid, streams := c.task.Pid(), c.task.IO()
		end(w, t)
		c.back(t)
		c.attach(t)
		if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Running || c.task.Pid() != pid {
			t.Errorf("want process %d running, got %v of process %d, %v", pid, st.Status, c.task.Pid(), err)
		}
		// It is a whole task again: another process, and its end.
		_, out, exit := c.exec(t, "after", nil, "both", "hello", "")
		if got := code(t, exit); got != 0 {
			t.Errorf("exec after the restart: exit code %d: %s", got, out.String())
		}
		c.kill(t, syscall.SIGKILL)
		select {
		case st := <-c.exit:
			if st.ExitCode() != 137 {
				t.Errorf("want exit code 137, got %d, %v", st.ExitCode(), st.Error())
			}
		case <-time.After(patience):
			t.Error("the exit was not seen after the restart")
		}
		c.remove(t)
		streams.Wait()
	}
}

func exitUnseen(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	streams := c.task.IO()
	w.crash(t)
	if err := syscall.Kill(int(c.task.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	c.back(t)
	// containerd buries a task without processes when it comes back; it must then be gone as a whole.
	if _, err := c.c.Task(w.ctx, nil); errdefs.IsNotFound(err) {
		c.task = nil
	} else {
		c.attach(t)
		select {
		case st := <-c.exit:
			if st.ExitCode() != 137 {
				t.Errorf("want exit code 137, got %d, %v", st.ExitCode(), st.Error())
			}
		case <-time.After(patience):
			t.Error("an exit that happened while containerd was away was never reported")
		}
	}
	c.remove(t)
	streams.Cancel()
	streams.Wait()
}

// shimPID finds the process that serves the container's task among what this test started.
func (c *container) shimPID(t *testing.T) int {
	t.Helper()
	return pidOf(t, c.w.shim, "-id", c.id, "-namespace", c.w.d.Mark())
}

// pidOf finds the process of a program that was started with these flags.
func pidOf(t *testing.T, program string, flags ...string) int {
	t.Helper()
	for _, p := range leak.Processes() {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", itoa(p.PID), "cmdline"))
		args := strings.Split(string(cmdline), "\x00")
		found := filepath.Base(args[0]) == program
		for i := 0; i < len(flags); i += 2 {
			found = found && has(args, flags[i], flags[i+1])
		}
		if found {
			return p.PID
		}
	}
	t.Fatalf("no %s runs with %q", program, flags)
	return 0
}

func has(args []string, flag, value string) bool {
	for i := range args[:len(args)-1] {
		if args[i] == flag && args[i+1] == value {
			return true
		}
	}
	return false
}

func (c *container) killShim(t *testing.T) {
	t.Helper()
	if !c.w.hachi() {
		c.removeSocket(t)
	}
	if err := syscall.Kill(c.shimPID(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// socketName is the socket of a runc shim as containerd 1.7 and 2.x note it in the bundle.
var socketName = regexp.MustCompile(`unix://(/run/containerd/s/[0-9a-f]+)`)

// removeSocket deletes what runc's shim does not when it is killed: the file of its socket.
func (c *container) removeSocket(t *testing.T) {
	t.Helper()
	for _, note := range []string{"bootstrap.json", "address"} {
		raw, _ := os.ReadFile(filepath.Join(c.bundle(), note))
		if m := socketName.FindSubmatch(raw); m != nil {
			t.Cleanup(func() { os.Remove(string(m[1])) })
			return
		}
	}
	t.Errorf("no socket is noted in %s", c.bundle())
}

func (c *container) bundle() string {
	return filepath.Join(c.w.d.State(), "io.containerd.runtime.v2.task", c.w.d.Mark(), c.id)
}

// gone waits until the program's process is no more.
func (c *container) gone(t *testing.T, pid uint32) {
	t.Helper()
	eventually(t, "end of the program whose shim died", func() error {
		if _, err := os.Stat(filepath.Join("/proc", itoa(int(pid)))); err == nil {
			return os.ErrExist
		}
		return nil
	})
}

func shimKilled(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	pid := c.task.Pid()
	c.killShim(t)
	until("/tasks/exit")
	c.gone(t, pid)
	c.task.IO().Cancel()
	c.remove(t)
}

// linuxServiceKilled ends the pod as shimKilled does: without its service nobody could stop a container.
func linuxServiceKilled(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	pid, shim := c.task.Pid(), c.shimPID(t)
	if err := syscall.Kill(pidOf(t, "hachi-linux", "-namespace", w.d.Mark()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until("/tasks/exit")
	c.gone(t, pid)
	c.gone(t, uint32(shim))
	c.task.IO().Cancel()
	c.remove(t)
}

func shimKilledCreated(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.create(t, setup{args: []string{"ready"}})
	pid := c.task.Pid()
	c.killShim(t)
	until("/tasks/exit")
	c.gone(t, pid)
	c.task.IO().Cancel()
	c.remove(t)
}

func shimKilledUnseen(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	pid, streams := c.task.Pid(), c.task.IO()
	w.crash(t)
	c.killShim(t)
	c.back(t)
	c.gone(t, pid)
	streams.Cancel()
	c.task = nil
	if task, err := c.c.Task(w.ctx, nil); err == nil {
		c.task = task
	}
	c.remove(t)
}

func programKilled(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	if err := syscall.Kill(int(c.task.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := c.wait(t); got != 137 {
		t.Errorf("want exit code 137, got %d", got)
	}
}

func programKilledCreated(t *testing.T, w *world) {
	c := w.create(t, setup{args: []string{"ready"}})
	if err := syscall.Kill(int(c.task.Pid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := c.wait(t); got != 137 {
		t.Errorf("want exit code 137, got %d", got)
	}
	if err := c.task.Start(w.ctx); err == nil {
		t.Error("a task whose process is dead was started")
	}
}

func bundleRemoved(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	// The rootfs below it may be a mount, which RemoveAll would empty.
	for _, name := range []string{"config.json", "address", "bootstrap.json", "shim-binary-path", "runtime", "options.json", "init.pid"} {
		if err := os.RemoveAll(filepath.Join(c.bundle(), name)); err != nil {
			t.Fatal(err)
		}
	}
	c.kill(t, syscall.SIGKILL)
	if got := c.wait(t); got != 137 {
		t.Errorf("want exit code 137, got %d", got)
	}
}
