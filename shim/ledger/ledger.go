// Package ledger is the node's book of containers: who lives in which cgroup, and what those used that have ended.
//
// Whoever counts by cgroup, as BPF does, learns the names here. A shim enters its containers and takes them out; the
// operator's programs only read.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hachi-run/hachi/shim/launch"
)

// Dir is where a node keeps its ledger.
const Dir = launch.LedgerDir

const (
	// exitsDir is below the ledger's own directory.
	exitsDir = "exited"
	// maxFile bounds a file of the ledger, in bytes; names and paths in Kubernetes are far below it.
	maxFile = 64 << 10
	suffix  = ".json"
	// unfinished is what a file is called while it is being written.
	unfinished = ".new"
)

// Ledger is the book in one directory: a file for each container, named by the id of its cgroup, and a bounded set of
// records of those that have ended. Its methods are safe for concurrent use, also by several processes.
type Ledger struct {
	dir  string
	boot string
}

// Open opens the ledger in dir, which need not exist: an empty book is written with its first entry.
func Open(dir string) (*Ledger, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	return &Ledger{dir: dir, boot: strings.TrimSpace(string(boot))}, nil
}

// Enter writes a container down. An entry of the same cgroup is replaced.
func (l *Ledger) Enter(e Entry) error {
	e.Boot = l.boot
	if err := e.check(); err != nil {
		return fmt.Errorf("enter container %s into the ledger: %w", e.ID, err)
	}
	if err := write(l.path(e.CgroupID), e); err != nil {
		return fmt.Errorf("enter container %s into the ledger: %w", e.ID, err)
	}
	return nil
}

// Has tells whether a cgroup has an entry.
func (l *Ledger) Has(cgroup uint64) bool {
	_, err := os.Stat(l.path(cgroup))
	return err == nil
}

// Entries are the containers that are there now, sorted by name. Files that are not entries are told in the error; the
// rest is returned all the same.
func (l *Ledger) Entries() ([]Entry, error) {
	all, err := l.all()
	return slices.DeleteFunc(all, func(e Entry) bool { return !e.exists(l.boot) }), err
}

// all returns also the entries of containers that are gone.
func (l *Ledger) all() ([]Entry, error) {
	names, err := list(l.dir)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	var entries []Entry
	var errs []error
	for _, name := range names {
		e, err := readEntry(filepath.Join(l.dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has left meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("read ledger: %w", err))
		default:
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, Entry.compare)
	return entries, errors.Join(errs...)
}

func (l *Ledger) path(cgroup uint64) string {
	return filepath.Join(l.dir, strconv.FormatUint(cgroup, 10)+suffix)
}

// list names the finished files of a directory in order; a directory that is not there has none.
func list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, suffix) })
	slices.Sort(names)
	return names, nil
}

// write makes or replaces a file of the ledger. A reader sees the old one or the whole new one.
func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	err = os.WriteFile(path+unfinished, data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path+unfinished, data, 0o600)
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(path+unfinished, path)
}

// read reads a file of the ledger into v. It follows no link and waits for no fifo.
func read(path string, v any) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: not a file of the ledger: %v (remove it)", path, st.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("%s: not a file of the ledger: more than %d bytes (remove it)", path, maxFile)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: not a file of the ledger: %w (remove it)", path, err)
	}
	return nil
}
