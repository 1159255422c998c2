// Package store keeps compiled modules on disk, by content, for every process of the host.
//
// A directory holds three kinds of files: KEY.hc, an artefact, never changed after it got its name;
// KEY.ok, the proof that this boot has verified it, whose mtime is the time of its last use; and
// KEY.lock, held by the one process that makes it. Whatever else lies there is left alone. Files that
// are damaged, foreign or left behind by a crash are removed and made again.
//
// The directory belongs to one user: root, or the one who runs `hachi run`. Files in it are machine
// code that the engine will execute, so a directory that somebody else can write to is not used.
//
// The package does not import wazero, so that a process that only stores stays small.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

// DefaultDir and DefaultMaxBytes are what Options fall back to.
const (
	DefaultDir      = "/var/lib/hachi/artifacts"
	DefaultMaxBytes = 4 << 30
)

// Options configure a Store.
type Options struct {
	// Dir is created with mode 0700 if need be; "" means DefaultDir.
	Dir string
	// MaxBytes bounds the sum of the artefacts' sizes; 0 means DefaultMaxBytes. The least recently used ones go
	// first. Artefacts in use stay usable after they are removed.
	MaxBytes int64
	// Compile turns a module into an artefact, normally by artifact.Compile in a jailed worker
	// process. It must not use out's name: out is an unlinked file in memory.
	Compile func(ctx context.Context, module, out *os.File) error
	// Log receives the warnings; nil means slog.Default.
	Log *slog.Logger
}

// Store hands out artefacts. It holds no descriptors and needs no Close; any number of Stores, in any
// number of processes, may share a directory. Safe for concurrent use.
type Store struct {
	o Options
	// broken is why the directory is not used; nil if it is.
	broken error
}

// Open prepares a store. A directory that cannot be used is not an error: the store works without one,
// compiling every time, and says so in its log.
func Open(o Options) (*Store, error) {
	if o.Compile == nil {
		return nil, errors.New("open artefact store: no Compile function")
	}
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Store{o: o}
	if s.broken = prepare(o.Dir); s.broken != nil {
		o.Log.Warn("artefact store is not usable: modules are compiled at every start", "dir", o.Dir, "error", s.broken)
	}
	return s, nil
}

// prepare makes sure that dir exists and that only the caller can write to it.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s: not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: belongs to user %d (chown it to %d)", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s: others may write to it (chmod 0700)", dir)
	}
	return nil
}

// Get returns the artefact of a module as a read-only file that the caller closes. digest names the
// module's content, "" means compute it. A missing or damaged artefact is compiled, once, however many
// processes ask; ctx ends the wait and the compilation. When the directory is full or unwritable the
// artefact comes as an unlinked file in memory, and a warning is logged.
func (s *Store) Get(ctx context.Context, digest string, module *os.File) (*os.File, error) {
	if digest == "" {
		var err error
		if digest, err = Digest(module); err != nil {
			return nil, fmt.Errorf("get artefact: %w", err)
		}
	}
	e := entry{dir: s.o.Dir, key: layout.Key(digest)}
	if s.broken != nil {
		return s.compile(ctx, e, module)
	}
	if f := s.hit(e); f != nil {
		return f, nil
	}
	l, err := e.lock(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("get artefact: wait for another process to compile: %w", err)
		}
		s.o.Log.Warn("artefact store cannot lock: compiling without it", "dir", s.o.Dir, "error", err)
		return s.compile(ctx, e, module)
	}
	defer l.release()
	if f := s.hit(e); f != nil {
		return f, nil
	}
	if err := check(module, digest); err != nil {
		return nil, fmt.Errorf("get artefact: %w", err)
	}
	return s.make(ctx, e, module)
}

// ErrDigest says that a module's content is not what its digest says.
var ErrDigest = errors.New("content does not match its digest")

// check compares a module with its digest: what is compiled now is run under that name ever after.
func check(module *os.File, digest string) error {
	got, err := Digest(module)
	if err == nil && got != digest {
		err = fmt.Errorf("%w: is %s, should be %s (remove the image and pull it again)", ErrDigest, got, digest)
	}
	return err
}

// Digest is the name of a module's content, "sha256:<hex>"; the offset of f stays.
func Digest(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("read module: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// make compiles and stores; the caller holds the entry's lock.
func (s *Store) make(ctx context.Context, e entry, module *os.File) (*os.File, error) {
	mem, err := s.compile(ctx, e, module)
	if err != nil {
		return nil, err
	}
	f, err := e.install(mem, s.o.MaxBytes)
	if err != nil {
		s.o.Log.Warn("artefact is not stored: its module is compiled again at the next start", "path", e.path(), "error", err)
		return mem, nil
	}
	mem.Close()
	s.evict(e)
	s.sweep() // here, for a store is opened a thousand times for each time that it compiles
	return f, nil
}

// compile runs Options.Compile into memory and returns the verified, sealed, read-only result.
func (s *Store) compile(ctx context.Context, e entry, module *os.File) (*os.File, error) {
	out, err := memfile()
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	defer out.Close()
	if err := s.o.Compile(ctx, module, out); err != nil {
		return nil, err
	}
	st, err := out.Stat()
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	h, err := layout.ReadHeader(out, st.Size())
	if err == nil {
		err = h.Verify(out)
	}
	if err == nil {
		err = h.Seal(out, e.key)
	}
	if err != nil {
		return nil, fmt.Errorf("compile: the worker's result: %w", err)
	}
	return readOnly(out)
}

// hit returns the stored artefact if there is a good one, and removes a bad one.
func (s *Store) hit(e entry) *os.File {
	f, err := e.open()
	if err == nil {
		return f
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.o.Log.Warn("artefact is unusable and will be replaced", "path", e.path(), "error", err)
		_ = os.Remove(e.path())
	}
	return nil
}

// Path returns where the artefact of a digest is or would be stored; for reports and tests.
func (s *Store) Path(digest string) string {
	return entry{dir: s.o.Dir, key: layout.Key(digest)}.path()
}

// Entry is one stored artefact.
type Entry struct {
	Path string
	Size int64
}

// List returns what is stored, least recently used first.
func (s *Store) List() ([]Entry, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	var out []Entry
	all, err := list(s.o.Dir)
	for _, u := range all {
		out = append(out, Entry{Path: filepath.Join(s.o.Dir, u.name+extArtifact), Size: u.size})
	}
	return out, err
}
