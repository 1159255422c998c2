package store

import (
	"cmp"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// usage is what eviction knows of one artefact.
type usage struct {
	name string
	size int64
	used time.Time
}

// list returns the directory's artefacts, least recently used first.
func list(dir string) ([]usage, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []usage
	for _, d := range names {
		name, ok := strings.CutSuffix(d.Name(), extArtifact)
		if _, hexErr := keyOf(name); !ok || hexErr != nil {
			continue
		}
		st, err := d.Info()
		if err != nil {
			continue // removed by another process meanwhile
		}
		u := usage{name: name, size: st.Size(), used: st.ModTime()}
		if p, err := os.Stat(filepath.Join(dir, name+extProof)); err == nil && p.ModTime().After(u.used) {
			u.used = p.ModTime()
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b usage) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name))
	})
	return all, nil
}

func keyOf(name string) (key [32]byte, err error) {
	b, err := hex.DecodeString(name)
	if err != nil {
		return key, err
	}
	if len(b) != len(key) {
		return key, hex.ErrLength
	}
	return [32]byte(b), nil
}

// evict removes the least recently used artefacts until the rest fits the bound, keeping e.
func (s *Store) evict(e entry) {
	all, err := list(s.o.Dir)
	if err != nil {
		s.o.Log.Warn("artefact store cannot be listed: nothing is evicted", "dir", s.o.Dir, "error", err)
		return
	}
	total := int64(0)
	for _, u := range all {
		total += u.size
	}
	for _, u := range all {
		if total <= s.o.MaxBytes {
			return
		}
		victim := entry{dir: s.o.Dir}
		victim.key, _ = keyOf(u.name)
		if victim.key == e.key {
			continue
		}
		if err := victim.remove(); err != nil && !os.IsNotExist(err) {
			s.o.Log.Warn("artefact cannot be evicted", "path", victim.path(), "error", err)
			continue
		}
		total -= u.size
	}
}

// sweep removes what crashes left behind: temporary files and locks that nobody holds, proofs whose
// artefact is gone.
func (s *Store) sweep() {
	names, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return
	}
	for _, d := range names {
		ext := filepath.Ext(d.Name())
		if ext != extTemp && ext != extLock && ext != extProof {
			continue
		}
		key, err := keyOf(strings.TrimSuffix(d.Name(), ext))
		if err != nil {
			continue
		}
		e := entry{dir: s.o.Dir, key: key}
		if _, err := os.Lstat(e.path()); err == nil && ext == extProof {
			continue
		}
		l, err := e.tryLock()
		if err != nil || l == nil {
			continue // somebody is at work on it
		}
		_ = os.Remove(e.file(extTemp))
		if _, err := os.Lstat(e.path()); os.IsNotExist(err) {
			_ = os.Remove(e.file(extProof))
		}
		l.release()
	}
}
