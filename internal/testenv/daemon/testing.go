package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

// Versions are the containerds that hachi serves.
var Versions = []string{"2.4.2", "1.7.35"}

// Test starts a containerd for a test; o.Bin and o.Dir are filled in, and o.Path should hold testenv.Bin when
// the test uses hachi. When the test ends it is stopped, its log's end is shown if the test failed, and everything that
// it or its shims left on the machine fails the test.
//
// Names that the test gives to namespaces and cgroups should hold Mark(d), or the leak check cannot know
// whose they are.
func Test(t testing.TB, version string, o Options) *Daemon {
	t.Helper()
	testenv.NeedRoot(t)
	o.Bin = testenv.Containerd(t, version)
	o.Dir = testenv.ShortDir(t)
	release, err := reap.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	scope := leak.Scope{Marks: []string{filepath.Base(o.Dir)}, Trees: []string{"/run/hachi"}}
	before := leak.Take(scope)

	d, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		RemoveCgroups(d.Mark())
		for _, left := range leak.Since(before, scope, 5*time.Second) {
			t.Errorf("left behind: %s", left)
		}
		if t.Failed() {
			t.Logf("the end of containerd's log:\n%s", d.LogTail(60))
			if keep := os.Getenv("HACHI_KEEP_LOGS"); keep != "" {
				_ = os.MkdirAll(keep, 0o755)
				if raw, err := os.ReadFile(d.LogPath()); err == nil {
					_ = os.WriteFile(filepath.Join(keep, filepath.Base(o.Dir)+".log"), raw, 0o644)
				}
			}
		}
	})
	return d
}

// Mark is a word that is in every path of this daemon and nowhere else. As a containerd namespace
// it makes the cgroups of containers recognisable too.
func (d *Daemon) Mark() string { return filepath.Base(d.o.Dir) }

// RemoveCgroups removes the empty parents that container runtimes leave on purpose: /<namespace> in every
// hierarchy. A cgroup below them makes the removal fail, and a leak check sees both.
func RemoveCgroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/" + name} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			_ = os.Remove(dir)
		}
	}
}
