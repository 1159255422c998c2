package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// maxExits is how many exit records a node keeps; the oldest go first.
	maxExits = 1000
	// trimEvery is how many more there are on average before those go: to look at all of them takes longer than to write
	// one.
	trimEvery = 64
)

// Exit is the record of a container that has ended: its last reading.
type Exit struct {
	Tally
	UID      string    `json:"uid,omitempty"`
	CgroupID uint64    `json:"cgroup_id"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
}

// Leave takes a container out of the ledger and keeps its last reading. One that has left before is fs.ErrNotExist.
func (l *Ledger) Leave(cgroup uint64, final Tally) error {
	e, err := readEntry(l.path(cgroup))
	if err != nil {
		return fmt.Errorf("take cgroup %d out of the ledger: %w", cgroup, err)
	}
	if err := l.record(Exit{Tally: final, UID: e.UID, CgroupID: cgroup, Started: e.Started, Ended: time.Now()}); err != nil {
		return fmt.Errorf("take container %s out of the ledger: %w", e.ID, err)
	}
	// Last, so that a crash leaves both, and the next attempt sees that the record is there.
	if err := os.Remove(l.path(cgroup)); err != nil {
		return fmt.Errorf("take container %s out of the ledger: %w", e.ID, err)
	}
	return nil
}

// record writes an exit record unless there is one of the same container.
func (l *Ledger) record(x Exit) error {
	path := filepath.Join(l.dir, exitsDir, fmt.Sprintf("%d-%d%s", x.CgroupID, x.Started.UnixNano(), suffix))
	if _, err := readExit(path); err == nil {
		return nil
	}
	if err := write(path, x); err != nil {
		return err
	}
	// By the kernel's clock two that ended within a few milliseconds would be equally old.
	if err := os.Chtimes(path, time.Time{}, x.Ended); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if rand.N(trimEvery) > 0 {
		return nil
	}
	return l.trim()
}

// trim removes the oldest records that are too many.
func (l *Ledger) trim() error {
	dir := filepath.Join(l.dir, exitsDir)
	names, err := list(dir)
	if err != nil || len(names) <= maxExits {
		return err
	}
	written := make(map[string]time.Time, len(names))
	for _, name := range names {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			written[name] = info.ModTime()
		}
	}
	slices.SortFunc(names, func(a, b string) int { return written[a].Compare(written[b]) })
	var errs []error
	for _, name := range names[:len(names)-maxExits] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Exited are the last containers that ended, oldest first, 1000 at most. Files that are no records are told in the
// error; the rest is returned all the same.
func (l *Ledger) Exited() ([]Exit, error) {
	dir := filepath.Join(l.dir, exitsDir)
	names, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	var exits []Exit
	var errs []error
	for _, name := range names {
		x, err := readExit(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // newer ones have taken its place
		case err != nil:
			errs = append(errs, fmt.Errorf("read ledger: %w", err))
		default:
			exits = append(exits, x)
		}
	}
	slices.SortFunc(exits, func(a, b Exit) int { return cmp.Or(a.Ended.Compare(b.Ended), cmp.Compare(a.CgroupID, b.CgroupID)) })
	return exits[max(0, len(exits)-maxExits):], errors.Join(errs...)
}

func readExit(path string) (Exit, error) {
	var x Exit
	if err := read(path, &x); err != nil {
		return x, err
	}
	if x.ID == "" || x.CgroupID == 0 || x.Ended.IsZero() {
		return x, fmt.Errorf("%s: not an exit record: a name or time is missing (remove it)", path)
	}
	return x, nil
}
