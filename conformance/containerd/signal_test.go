package containerd

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

func sigterm(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	c.kill(t, syscall.SIGTERM)
	if code := c.wait(t); code != 128+15 {
		t.Errorf("want exit code 143, got %d", code)
	}
}

func sigkill(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	c.kill(t, syscall.SIGKILL)
	if code := c.wait(t); code != 128+9 {
		t.Errorf("want exit code 137, got %d", code)
	}
}

func sigkillSpin(t *testing.T, w *world) {
	c := w.start(t, "spin")
	c.stdout.await(t, "ready")
	begin := time.Now()
	c.kill(t, syscall.SIGKILL)
	if code := c.wait(t); code != 128+9 {
		t.Errorf("want exit code 137, got %d", code)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("SIGKILL took %v", took)
	}
}

func killAfterExit(t *testing.T, w *world) {
	_, c := w.run(t, "exit", "0")
	if err := c.task.Kill(w.ctx, syscall.SIGKILL); !errdefs.IsNotFound(err) {
		t.Errorf("kill after exit: want not found, got %v", err)
	}
}

func killBeforeStart(t *testing.T, w *world) {
	c := w.create(t, setup{args: []string{"ready"}})
	c.kill(t, syscall.SIGKILL)
	if code := c.wait(t); code != 128+9 {
		t.Errorf("want exit code 137, got %d", code)
	}
}

func deleteRules(t *testing.T, w *world) {
	c := w.start(t, "ready")
	c.stdout.await(t, "ready")
	if _, err := c.task.Delete(w.ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete a running task: want failed precondition, got %v", err)
	}
	st, err := c.task.Status(w.ctx)
	if err != nil || st.Status != client.Running {
		t.Errorf("want running after a refused delete, got %v, %v", st.Status, err)
	}
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
	if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Stopped || st.ExitStatus != 137 || st.ExitTime.IsZero() {
		t.Errorf("want stopped with 137 and a time, got %+v, %v", st, err)
	}
	got, err := c.task.Delete(w.ctx)
	if err != nil || got.ExitCode() != 137 {
		t.Errorf("delete: want exit code 137, got %d, %v", got.ExitCode(), err)
	}
	if _, err := c.task.Delete(w.ctx); !errdefs.IsNotFound(err) {
		t.Errorf("second delete: want not found, got %v", err)
	}
	if err := c.c.Delete(w.ctx, client.WithSnapshotCleanup); err != nil {
		t.Error(err)
	}
}

func pauseResume(t *testing.T, w *world) {
	c := w.start(t, "sleep", "300")
	if err := c.task.Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := c.task.Status(w.ctx); err != nil || st.Status != client.Paused {
		t.Errorf("want paused, got %v, %v", st.Status, err)
	}
	select {
	case st := <-c.exit:
		t.Fatalf("a paused program ended with %d", st.ExitCode())
	case <-time.After(600 * time.Millisecond):
	}
	if err := c.task.Resume(w.ctx); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(t); code != 0 {
		t.Errorf("want exit code 0 after resume, got %d", code)
	}

	c = w.start(t, "ready")
	c.stdout.await(t, "ready")
	if err := c.task.Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	c.kill(t, syscall.SIGKILL)
	// cgroup v1 keeps a frozen process from dying; runc leaves it so, and a caller then resumes.
	if err := c.task.Resume(w.ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errdefs.IsFailedPrecondition(err) {
		t.Logf("resume after kill: %v", err)
	}
	if code := c.wait(t); code != 137 {
		t.Errorf("SIGKILL of a paused container: want exit code 137, got %d", code)
	}
}
