package ledger

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/shim/launch"
)

// process starts a process that lives until the test ends, or has just ended, and returns who it is.
func process(t *testing.T, alive bool) (pid int, start uint64) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := launch.ProcessStart(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	end := func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	if alive {
		t.Cleanup(end)
	} else {
		end()
	}
	return cmd.Process.Pid, start
}

// What Collect does with an entry: whether it stays, and whether there is a record.
func TestCollect(t *testing.T) {
	livePID, liveStart := process(t, true)
	deadPID, deadStart := process(t, false)
	alive := func(e *Entry) { e.PID, e.PIDStart = livePID, liveStart }
	dead := func(e *Entry) { e.PID, e.PIDStart = deadPID, deadStart }
	populate := func(t *testing.T, e *Entry) {
		// The ledger takes any directory for a cgroup, and this is how one says that it has processes.
		if err := os.WriteFile(filepath.Join(e.CgroupDirs[0], "cgroup.procs"), []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		who            func(*Entry)
		set            func(*testing.T, *Entry)
		doomed         bool
		stays, records bool
	}{
		"running":                                 {who: alive, set: populate, stays: true},
		"stopped, not yet deleted":                {who: alive, stays: true},
		"its shim was killed":                     {who: dead, records: true},
		"its shim was killed, its processes live": {who: dead, set: populate, stays: true},
		"and it is being deleted":                 {who: dead, set: populate, doomed: true, records: true},
		"deleted while its shim lives":            {who: alive, set: populate, doomed: true, stays: true},
		"another process has the shim's number":   {who: func(e *Entry) { e.PID, e.PIDStart = livePID, liveStart-1 }, records: true},
		"its cgroup is gone": {who: alive, records: true, set: func(t *testing.T, e *Entry) {
			if err := os.Remove(e.CgroupDirs[0]); err != nil {
				t.Fatal(err)
			}
		}},
		"its cgroup is another one": {who: alive, records: true, set: func(t *testing.T, e *Entry) {
			dir := e.CgroupDirs[0]
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		"of an earlier boot": {who: alive, set: func(_ *testing.T, e *Entry) { e.Boot = "earlier" }},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			e := enter(t, l, "one")[0]
			c.who(&e)
			if c.set != nil {
				c.set(t, &e)
			}
			if err := write(l.path(e.CgroupID), e); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := l.Collect(nil, func(e Entry) bool { return c.doomed && e.ID == "one" }); err != nil {
					t.Fatal(err)
				}
			}
			exits, err := l.Exited()
			if err != nil || l.Has(e.CgroupID) != c.stays || len(exits) != map[bool]int{true: 1}[c.records] {
				t.Errorf("is in the ledger: %v, records: %+v, %v", l.Has(e.CgroupID), exits, err)
			}
			if c.records && (exits[0].Pod != "one" || !exits[0].Started.Equal(e.Started)) {
				t.Errorf("the record is %+v", exits[0])
			}
		})
	}
}

// A shim that is just dying is waited for; one that lives on is not, in the end.
func TestAwait(t *testing.T) {
	l := open(t)
	livePID, liveStart := process(t, true)
	dying := exec.Command("sleep", "0.1")
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := launch.ProcessStart(dying.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for id, who := range map[string]struct {
		pid   int
		start uint64
	}{"lives": {livePID, liveStart}, "dies": {dying.Process.Pid, start}} {
		e := entry(t, id)
		e.PID, e.PIDStart = who.pid, who.start
		if err := l.Enter(e); err != nil {
			t.Fatal(err)
		}
	}
	took := func(id string, most time.Duration) time.Duration {
		ctx, stop := context.WithTimeout(t.Context(), most)
		defer stop()
		began := time.Now()
		l.Await(ctx, func(e Entry) bool { return e.ID == id })
		return time.Since(began)
	}
	if d := took("dies", time.Minute); d < 50*time.Millisecond || d > 30*time.Second {
		t.Errorf("waited %v for a shim that takes 100ms to die", d)
	}
	if d := took("lives", 50*time.Millisecond); d < 50*time.Millisecond {
		t.Errorf("waited %v for a shim that lives", d)
	}
	if d := took("of nobody", time.Minute); d > 30*time.Second {
		t.Errorf("waited %v for nobody", d)
	}
	if err := dying.Wait(); err != nil { // only now: until here it was dead and not waited for
		t.Error(err)
	}
}

// A writer was killed halfway.
func TestCollectRemovesUnfinishedFiles(t *testing.T) {
	l := open(t)
	e := enter(t, l, "one")[0]
	if err := l.record(Exit{Tally: Tally{Reading: Reading{ID: "x"}}, CgroupID: 3, Ended: time.Now()}); err != nil {
		t.Fatal(err)
	}
	old, young := l.path(77)+unfinished, l.path(78)+unfinished
	exit := filepath.Join(l.dir, exitsDir, "1-77.json"+unfinished)
	for _, f := range []string{old, young, exit} {
		if err := os.WriteFile(f, []byte(`{"id`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{old, exit} {
		if err := os.Chtimes(f, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := l.Entries(); err != nil || len(all) != 1 {
		t.Errorf("unfinished files are no entries: %v, %v", all, err)
	}
	if _, err := l.Collect(nil, nil); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(l.dir, "*"))
	want := []string{l.path(e.CgroupID), young, l.stamp(), filepath.Join(l.dir, exitsDir)}
	slices.Sort(want) // as Glob does; where the entry stands depends on its cgroup's number
	if diff := cmp.Diff(want, left); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if left, _ := filepath.Glob(exit); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCollectOfNothing(t *testing.T) {
	l := open(t)
	if _, err := l.Collect(nil, nil); err != nil {
		t.Errorf("a ledger that nobody has written: %v", err)
	}
	if !l.Due(time.Hour) {
		t.Error("nothing was collected, and it is not due")
	}
	enter(t, l, "one")
	if _, err := l.Collect(nil, nil); err != nil || l.Due(time.Hour) || !l.Due(-time.Hour) {
		t.Errorf("%v; due: %v", err, l.Due(time.Hour))
	}
}
