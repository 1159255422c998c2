package install

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// Programs are what a node needs, in one folder.
var Programs = []string{"containerd-shim-hachi-v1", "hachi", "hachi-engine", "hachi-linux", "hachi-shim"}

// programs are the versions of the programs on a host:
//
//	<dir>/versions/<version>-<digest>/   one folder per build, never changed
//	<dir>/bin -> versions/...            the one that new pods use
//
// A pod's server finds its engine beside its own executable, so a running pod goes on with the build that it began with.
type programs struct {
	host Host
	dir  string
}

func (p programs) link() string { return path.Join(p.dir, "bin") }

// shim is what containerd executes.
func (p programs) shim() string { return path.Join(p.link(), Programs[0]) }

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// put copies the programs from a folder of this process and returns the name of their build on the host. fresh tells
// that they were not there.
func (p programs) put(from, version string) (build string, fresh bool, err error) {
	sum := sha256.New()
	for _, name := range Programs {
		if err := hashFile(sum, filepath.Join(from, name)); err != nil {
			return "", false, fmt.Errorf("read program: %w (want all of hachi's programs in %s)", err, from)
		}
	}
	build = unfit.ReplaceAllString(version, "-") + "-" + hex.EncodeToString(sum.Sum(nil))[:12]
	versions, err := p.host.At(path.Join(p.dir, "versions"))
	if err != nil {
		return "", false, err
	}
	to := filepath.Join(versions, build)
	if same(to, sum.Sum(nil)) {
		return build, false, nil
	}
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return "", false, fmt.Errorf("make folder for programs: %w (choose a folder that can be written with --dir)", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(versions, &st); err == nil && st.Flags&unix.ST_NOEXEC != 0 {
		return "", false, fmt.Errorf("make folder for programs: %s: mounted noexec (choose another folder with --dir)", p.dir)
	}
	scratch, err := os.MkdirTemp(versions, ".new-")
	if err != nil {
		return "", false, fmt.Errorf("make folder for programs: %w", err)
	}
	defer os.RemoveAll(scratch)
	for _, name := range Programs {
		if err := copyFile(filepath.Join(from, name), filepath.Join(scratch, name)); err != nil {
			return "", false, fmt.Errorf("copy program: %w", err)
		}
	}
	if err := os.Chmod(scratch, 0o755); err != nil {
		return "", false, err
	}
	// What stands there under this name is damaged: the name holds the content's digest.
	if err := os.RemoveAll(to); err != nil {
		return "", false, err
	}
	return build, true, os.Rename(scratch, to)
}

func same(dir string, want []byte) bool {
	sum := sha256.New()
	for _, name := range Programs {
		if hashFile(sum, filepath.Join(dir, name)) != nil {
			return false
		}
	}
	return string(sum.Sum(nil)) == string(want)
}

func hashFile(to io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close())
}

// current is the build that new pods use; empty when there is none.
func (p programs) current() (string, error) {
	dir, err := p.host.At(p.dir)
	if err != nil {
		return "", err
	}
	target, err := os.Readlink(filepath.Join(dir, "bin"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.EINVAL):
		return "", fmt.Errorf("%s: not a link of hachi node install (move it away, or choose another folder with --dir)", p.link())
	case err != nil:
		return "", err
	}
	return path.Base(target), nil
}

// use makes a build the one that new pods use; an empty one, none.
func (p programs) use(build string) error {
	dir, err := p.host.At(p.dir)
	if err != nil {
		return err
	}
	link := filepath.Join(dir, "bin")
	if build == "" {
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	next := filepath.Join(dir, ".bin.new")
	os.Remove(next)
	if err := os.Symlink(path.Join("versions", build), next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// drop removes a build.
func (p programs) drop(build string) error {
	at, err := p.host.At(path.Join(p.dir, "versions", build))
	if err != nil {
		return err
	}
	return os.RemoveAll(at)
}

// dropUnused removes every build but one that no process executes, and returns those that stayed because one does.
func (p programs) dropUnused(keep string) (busy []string, err error) {
	versions, err := p.host.At(path.Join(p.dir, "versions"))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(versions)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	running := executables()
	var errs []error
	for _, e := range entries {
		if e.Name() == keep {
			continue
		}
		if inUse(filepath.Join(versions, e.Name()), running) {
			busy = append(busy, e.Name())
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(versions, e.Name())))
	}
	return busy, errors.Join(append(errs, err)...)
}

// inode identifies a file.
type inode struct{ dev, ino uint64 }

// executables are the files that processes execute.
func executables() map[inode]bool {
	out := map[inode]bool{}
	found, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range found {
		var st unix.Stat_t
		if unix.Stat(exe, &st) == nil {
			out[inode{st.Dev, st.Ino}] = true
		}
	}
	return out
}

func inUse(dir string, running map[inode]bool) bool {
	for _, name := range Programs {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, name), &st) == nil && running[inode{st.Dev, st.Ino}] {
			return true
		}
	}
	return false
}
