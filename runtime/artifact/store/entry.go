package store

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

const (
	extArtifact = ".hc"
	extProof    = ".ok"
	extLock     = ".lock"
	extTemp     = ".tmp"
)

// entry is one artefact's place in a directory.
type entry struct {
	dir string
	key [32]byte
}

func (e entry) file(ext string) string {
	return filepath.Join(e.dir, hex.EncodeToString(e.key[:])+ext)
}

func (e entry) path() string { return e.file(extArtifact) }

// open returns the artefact, verified. The full check runs once per boot and file: its proof names the
// inode and its ctime, which every later change of content moves on.
func (e entry) open() (f *os.File, err error) {
	f, err = os.OpenFile(e.path(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("mode %#o of user %d: %w", st.Mode, st.Uid, layout.ErrForeign)
	}
	h, err := layout.ReadHeader(f, st.Size)
	if err != nil {
		return nil, err
	}
	if h.Key != e.key {
		return nil, fmt.Errorf("stored under another's name: %w", layout.ErrForeign)
	}
	want := proof(&st)
	if got, err := os.ReadFile(e.file(extProof)); err != nil || !bytes.Equal(got, want) {
		if err := h.Verify(f); err != nil {
			return nil, err
		}
		// Best effort: without its proof the file is verified again next time.
		_ = os.WriteFile(e.file(extProof), want, 0o600)
		return f, nil
	}
	now := time.Now()
	_ = os.Chtimes(e.file(extProof), now, now)
	return f, nil
}

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		// No proof can be trusted across reboots then, so make one that no other process repeats.
		return fmt.Sprint(os.Getpid(), time.Now().UnixNano())
	}
	return strings.TrimSpace(string(b))
})

func proof(st *unix.Stat_t) []byte {
	return fmt.Appendf(nil, "%s %d %d %d %d.%09d\n", bootID(), st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec)
}

// install copies a finished artefact into the directory and returns it opened for reading.
func (e entry) install(mem *os.File, limit int64) (*os.File, error) {
	st, err := mem.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%d bytes exceed the store's bound of %d (raise it)", st.Size(), limit)
	}
	temp := e.file(extTemp)
	// Whatever has this name was left by a crash: the lock is ours.
	_ = os.Remove(temp)
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	// No fsync: after a power cut the checksums tell, and the module is compiled again.
	_, err = io.Copy(w, io.NewSectionReader(mem, 0, st.Size()))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(temp)
	}
	if err == nil {
		if err = os.Rename(temp, e.path()); err != nil {
			f.Close()
		}
	}
	if err != nil {
		_ = os.Remove(temp)
		return nil, err
	}
	var now unix.Stat_t
	if unix.Fstat(int(f.Fd()), &now) == nil {
		_ = os.WriteFile(e.file(extProof), proof(&now), 0o600)
	}
	return f, nil
}

// remove forgets the artefact. Engines that have it open or mapped keep it.
func (e entry) remove() error {
	err := os.Remove(e.path())
	_ = os.Remove(e.file(extProof))
	return err
}
