package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxExits is how many exit records a node keeps; the oldest go first.
	maxExits = 1000
	// moreExits is how many more may be there until those go: to sort them all takes longer than to write one.
	moreExits = 64
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
	dir := filepath.Join(l.dir, exitsDir)
	names, err := unsorted(dir)
	if err != nil {
		return err
	}
	mine := "-" + strconv.FormatUint(x.CgroupID, 10) + suffix
	for _, name := range names {
		if !strings.HasSuffix(name, mine) {
			continue
		}
		if old, err := readExit(filepath.Join(dir, name)); err == nil && old.Started.Equal(x.Started) {
			return nil
		}
	}
	// The names sort by time.
	if err := write(filepath.Join(dir, fmt.Sprintf("%020d%s", x.Ended.UnixNano(), mine)), x); err != nil {
		return err
	}
	if len(names) < maxExits+moreExits {
		return nil
	}
	slices.Sort(names)
	for _, name := range names[:len(names)+1-maxExits] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Exited are the last containers that ended, oldest first, 1000 at most. Files that are no records are told in the
// error; the rest is returned all the same.
func (l *Ledger) Exited() ([]Exit, error) {
	dir := filepath.Join(l.dir, exitsDir)
	names, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	names = names[max(0, len(names)-maxExits):]
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
	return exits, errors.Join(errs...)
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
