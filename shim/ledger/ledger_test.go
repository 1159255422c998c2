package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func open(t testing.TB) *Ledger {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// entry describes a lone container whose cgroup is an ordinary directory: to the ledger it is a number and a path.
func entry(t testing.TB, id string) Entry {
	t.Helper()
	e, err := NewEntry("default", id, nil, "", []string{t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// enter enters containers and returns their entries as a reader finds them.
func enter(t testing.TB, l *Ledger, ids ...string) []Entry {
	t.Helper()
	var all []Entry
	for _, id := range ids {
		e := entry(t, id)
		if err := l.Enter(e); err != nil {
			t.Fatal(err)
		}
		e.Boot, e.Started = l.boot, e.Started.Round(0) // without the monotonic clock, which no file holds
		all = append(all, e)
	}
	return all
}

func TestEntriesAreThoseThatEnteredAndHaveNotLeft(t *testing.T) {
	l := open(t)
	if all, err := l.Entries(); err != nil || len(all) != 0 {
		t.Errorf("a ledger that nobody has written: %v, %v", all, err)
	}
	want := enter(t, l, "one", "three", "two")
	got, err := l.Entries()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if err := l.Leave(want[1].CgroupID, Tally{Reading: Reading{ID: "three", RxBytes: 7}}); err != nil {
		t.Fatal(err)
	}
	if l.Has(want[1].CgroupID) || !l.Has(want[0].CgroupID) {
		t.Error("who has left is there, or who stays is not")
	}
	if got, err := l.Entries(); err != nil || len(got) != 2 {
		t.Errorf("after one has left: %v, %v", got, err)
	}
	exits, err := l.Exited()
	if err != nil || len(exits) != 1 || exits[0].RxBytes != 7 || exits[0].ID != "three" || exits[0].CgroupID != want[1].CgroupID ||
		!exits[0].Started.Equal(want[1].Started) || exits[0].Ended.Before(want[1].Started) {
		t.Errorf("exit records: %+v, %v", exits, err)
	}
	if err := l.Leave(want[1].CgroupID, Tally{Reading: Reading{ID: "three"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("leaving twice: %v", err)
	}
}

// A crash between record and removal leaves both, and what the first attempt has read is what counts.
func TestARecordIsWrittenOnce(t *testing.T) {
	l := open(t)
	e := enter(t, l, "one")[0]
	if err := l.Leave(e.CgroupID, Tally{Reading: Reading{ID: "one", TxBytes: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Enter(e); err != nil {
		t.Fatal(err)
	}
	if err := l.Leave(e.CgroupID, Tally{Reading: Reading{ID: "one"}}); err != nil {
		t.Fatal(err)
	}
	exits, err := l.Exited()
	if err != nil || len(exits) != 1 || exits[0].TxBytes != 5 || l.Has(e.CgroupID) {
		t.Errorf("%+v, %v", exits, err)
	}
}

func TestTheOldestRecordsGo(t *testing.T) {
	l := open(t)
	begin := time.Now()
	// So many more that it is as good as impossible that none of them was the one to look for old ones.
	const all = maxExits + 40*trimEvery
	for i := range all {
		x := Exit{Tally: Tally{Reading: Reading{ID: fmt.Sprint(i)}}, CgroupID: uint64(i + 1), Started: begin, Ended: begin.Add(time.Duration(i))}
		if err := l.record(x); err != nil {
			t.Fatal(err)
		}
	}
	exits, err := l.Exited()
	if err != nil || len(exits) != maxExits || exits[0].ID != fmt.Sprint(all-maxExits) || exits[maxExits-1].ID != fmt.Sprint(all-1) {
		t.Errorf("%d records from %+v, %v", len(exits), exits[:min(1, len(exits))], err)
	}
	if files, err := list(filepath.Join(l.dir, exitsDir)); err != nil || len(files) >= all {
		t.Errorf("%d files of %d are left, %v", len(files), all, err)
	}
	if err := l.trim(); err != nil {
		t.Error(err)
	}
	left, err := l.Exited()
	if diff := cmp.Diff(exits, left); diff != "" || err != nil {
		t.Errorf("after the others went: %v; -want +got:\n%s", err, diff)
	}
	if files, err := list(filepath.Join(l.dir, exitsDir)); err != nil || len(files) != maxExits {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestNames(t *testing.T) {
	const prefix = "io.kubernetes.cri."
	for name, c := range map[string]struct {
		annotations map[string]string
		want        Name
	}{
		"lone":      {nil, Name{Namespace: "moby", Pod: "c1", Container: "c1"}},
		"container": {map[string]string{prefix + "sandbox-namespace": "shop", prefix + "sandbox-name": "cart-7", prefix + "container-name": "cart", prefix + "sandbox-uid": "u"}, Name{"shop", "cart-7", "cart", "u"}},
		"sandbox":   {map[string]string{prefix + "sandbox-namespace": "shop", prefix + "sandbox-name": "cart-7"}, Name{Namespace: "shop", Pod: "cart-7", Container: "c1"}},
		"no pod":    {map[string]string{prefix + "sandbox-namespace": "shop"}, Name{Namespace: "moby", Pod: "c1", Container: "c1"}},
	} {
		if got := NameOf("moby", "c1", c.annotations); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// Whatever lies in the directory, the error names it, and the entries beside it are read.
func TestForeignFiles(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, path string, e Entry) error{
		"empty": func(_ *testing.T, path string, _ Entry) error { return os.WriteFile(path, nil, 0o600) },
		"half written": func(_ *testing.T, path string, _ Entry) error {
			return os.WriteFile(path, []byte(`{"id":"x","cgro`), 0o600)
		},
		"not JSON": func(_ *testing.T, path string, _ Entry) error { return os.WriteFile(path, []byte("\x7fELF"), 0o600) },
		"no name": func(_ *testing.T, path string, _ Entry) error {
			return os.WriteFile(path, []byte(`{"cgroup_id":77}`), 0o600)
		},
		"too large": func(_ *testing.T, path string, _ Entry) error {
			return os.WriteFile(path, []byte(strings.Repeat(" ", maxFile+1)), 0o600)
		},
		"directory": func(_ *testing.T, path string, _ Entry) error { return os.Mkdir(path, 0o700) },
		"fifo":      func(_ *testing.T, path string, _ Entry) error { return unix.Mkfifo(path, 0o600) },
		"link":      func(_ *testing.T, path string, _ Entry) error { return os.Symlink("/etc/passwd", path) },
		"another's": func(_ *testing.T, path string, e Entry) error { e.Boot = "b"; return write(path, e) },
		"relative cgroup": func(_ *testing.T, path string, e Entry) error {
			e.Boot, e.CgroupID, e.CgroupDirs = "b", 77, []string{"../x"}
			return write(path, e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			e := enter(t, l, "good")[0]
			path := l.path(77)
			if err := put(t, path, e); err != nil {
				t.Fatal(err)
			}
			got, err := l.Entries()
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v does not name %s", err, path)
			}
			if len(got) != 1 || got[0].ID != "good" {
				t.Errorf("got %+v", got)
			}
			x := Exit{Tally: Tally{Reading: Reading{ID: "old"}}, CgroupID: 1, Ended: time.Now()}
			if err := l.record(x); err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(l.dir, exitsDir, "1-77.json")
			if err := put(t, path, e); err != nil {
				t.Fatal(err)
			}
			exits, err := l.Exited()
			if err == nil || !strings.Contains(err.Error(), path) || len(exits) != 1 {
				t.Errorf("exit records: %+v, %v", exits, err)
			}
		})
	}
}

func TestEnterRefusesWhatNobodyCouldRead(t *testing.T) {
	l := open(t)
	good := entry(t, "x")
	for name, spoil := range map[string]func(*Entry){
		"no id":           func(e *Entry) { e.ID = "" },
		"no cgroup":       func(e *Entry) { e.CgroupDirs = nil },
		"no number":       func(e *Entry) { e.CgroupID = 0 },
		"relative cgroup": func(e *Entry) { e.Cgroup = "kubepods/x" },
	} {
		e := good
		spoil(&e)
		if err := l.Enter(e); err == nil {
			t.Errorf("%s: entered", name)
		}
	}
	if _, err := NewEntry("default", "x", nil, "", nil); err == nil {
		t.Error("a container without a cgroup has an entry")
	}
	if _, err := NewEntry("default", "x", nil, "/no/such/cgroup", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cgroup that is not there: %v", err)
	}
}

// Entries of containers that are gone, or of an earlier boot, are nobody's to see.
func TestEntriesLeavesOutTheDead(t *testing.T) {
	l := open(t)
	all := enter(t, l, "alive", "gone", "rebooted")
	if err := os.Remove(all[1].CgroupDirs[0]); err != nil {
		t.Fatal(err)
	}
	all[2].Boot = "another"
	if err := write(l.path(all[2].CgroupID), all[2]); err != nil {
		t.Fatal(err)
	}
	got, err := l.Entries()
	if err != nil || !slices.EqualFunc(got, all[:1], func(a, b Entry) bool { return a.ID == b.ID }) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	good := Entry{Name: Name{Namespace: "a", Pod: "b", Container: "c"}, ID: "d", CgroupID: 5, CgroupDirs: []string{"/x"}, Boot: "e"}
	f.Add([]byte(`{"id":"d","cgroup_id":5}`))
	f.Add([]byte(`{"cgroup_dirs":["/a/../b"],"cgroup_id":-1}`))
	f.Add([]byte(`{"rtt_us":{"p50":1e400}}`))
	if err := write(filepath.Join(dir, "seed"), good); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join(dir, "seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "5"+suffix)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := readEntry(path); err == nil {
			if e.CgroupID != 5 || e.ID == "" || !filepath.IsAbs(e.main()) {
				t.Errorf("%q was read as %+v", data, e)
			}
			if err := write(path, e); err != nil {
				t.Fatal(err)
			}
			again, err := readEntry(path)
			if diff := cmp.Diff(e, again); err != nil || diff != "" {
				t.Errorf("written and read again: %v; -want +got:\n%s", err, diff)
			}
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("error %v does not name the file", err)
		}
		if x, err := readExit(path); err == nil && (x.ID == "" || x.CgroupID == 0) {
			t.Errorf("%q was read as %+v", data, x)
		}
	})
}
