package cgroup

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestReadUsage(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "usage")
		if Populated(g.Dirs()) {
			t.Error("a new group is populated")
		}
		child := spawn(t, g, "sleep")
		if !Populated(g.Dirs()) {
			t.Error("a group with a process is not populated")
		}
		_, memory := g.dir("memory")
		if m.host.unified {
			_, err := read(g.v2, "memory.current")
			memory = err == nil
		}
		var u Usage
		for deadline := time.Now().Add(20 * time.Second); u.CPU == 0 || memory && u.Memory == 0; time.Sleep(time.Millisecond) {
			var err error
			if u, err = ReadUsage(g.Dirs()); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("of a process: %+v", u)
			}
		}
		child.Process.Kill()
		child.Wait()
		after, err := ReadUsage(g.Dirs())
		if err != nil || after.CPU < u.CPU {
			t.Errorf("after the end of its process, %v of CPU time; before, %v (%v)", after.CPU, u.CPU, err)
		}
		if err := g.Delete(); err != nil {
			t.Fatal(err)
		}
		if u, err := ReadUsage(g.Dirs()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a group that is gone: %+v, %v", u, err)
		}
		if Populated(g.Dirs()) {
			t.Error("a group that is gone is populated")
		}
	})
}
