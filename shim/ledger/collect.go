package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/runtime/cgroup"
)

// Collect removes what containers of killed shims left in the ledger and, when o is not nil, in BPF: their last readings
// become exit records, as far as their cgroups are still there to be read. A container that has processes is left
// alone, unless doomed, which may be nil, says that it is being deleted. Entries of an earlier boot go without a record.
// Collect waits for other processes that collect, and returns the cgroups whose containers it took out.
//
// What is attached to a cgroup that is there and has no entry is left alone too: its container may be about to enter.
func (l *Ledger) Collect(o *observe.Observer, doomed func(Entry) bool) (ended []uint64, err error) {
	unlock, err := l.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody has ever entered anything
	}
	if err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	defer unlock()
	if err := os.WriteFile(l.stamp(), nil, 0o600); err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	all, err := l.all()
	errs := []error{err}
	for _, e := range all {
		switch {
		case e.Boot != l.boot:
			errs = append(errs, os.Remove(l.path(e.CgroupID)))
		case !e.exists(l.boot), e.orphan() && (doomed != nil && doomed(e) || !cgroup.Populated(e.CgroupDirs)):
			if err := l.End(e, o); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			ended = append(ended, e.CgroupID)
		}
	}
	if o != nil {
		_, err := o.Collect(func(id uint64) bool { return !slices.Contains(ended, id) })
		errs = append(errs, err)
	}
	return ended, errors.Join(append(errs, l.sweep())...)
}

// Await waits until the shims of the entries that match have ended, or ctx is done. A shim that is killed is gone for
// containerd, with its connections, a little before it has ended.
func (l *Ledger) Await(ctx context.Context, match func(Entry) bool) {
	all, _ := l.all() // what is wrong with others is for Collect to say
	shims := slices.DeleteFunc(all, func(e Entry) bool { return !match(e) })
	for slices.ContainsFunc(shims, func(e Entry) bool { return !e.orphan() }) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Due tells whether the last Collect was longer than that ago, or there was none.
func (l *Ledger) Due(every time.Duration) bool {
	st, err := os.Stat(l.stamp())
	return err != nil || time.Since(st.ModTime()) > every
}

// stamp is the file that Collect touches.
func (l *Ledger) stamp() string { return filepath.Join(l.dir, "collected") }

// sweep removes files that were never finished.
func (l *Ledger) sweep() error {
	var errs []error
	for _, dir := range []string{l.dir, filepath.Join(l.dir, exitsDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && strings.HasSuffix(e.Name(), unfinished) && time.Since(info.ModTime()) > time.Minute {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// lock waits until no other process is collecting.
func (l *Ledger) lock() (unlock func(), err error) {
	fd, err := unix.Open(l.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: l.dir, Err: err}
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "lock", Path: l.dir, Err: err}
	}
	return func() { unix.Close(fd) }, nil
}
