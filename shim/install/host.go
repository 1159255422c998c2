package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is the node's file system, mounted somewhere or "/". Its methods take the host's absolute names and follow the
// host's symbolic links: /etc/containerd may be a link to /var/lib/x, which is not this process's /var/lib/x.
type Host string

// maxLinks is the kernel's limit too.
const maxLinks = 40

// At returns where a name of the host is found from here. The last element may be missing.
func (h Host) At(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("%s: not absolute", name)
	}
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		step := rest[0]
		rest = rest[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, step)
		target, err := os.Readlink(filepath.Join(string(h), next))
		if err != nil { // no link, or nothing at all
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", name, unix.ELOOP)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return filepath.Join(string(h), at), nil
}

// ReadFile reads a file of the host.
func (h Host) ReadFile(name string) ([]byte, error) {
	at, err := h.At(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(at)
}

// Glob is filepath.Glob on the host.
func (h Host) Glob(pattern string) ([]string, error) {
	dir, last := path.Split(pattern)
	if strings.Contains(dir, "*") {
		return nil, fmt.Errorf("%s: a star before the last slash (name the folder)", pattern)
	}
	at, err := h.At(path.Clean(dir))
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(at, last))
	for i := range found {
		found[i] = path.Join(dir, filepath.Base(found[i]))
	}
	return found, err
}

// WriteFile replaces a file of the host, or makes it with its folder. It appears whole or not at all, and keeps its mode and
// owner.
func (h Host) WriteFile(name string, text []byte) error {
	at, err := h.At(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	mode, owner, group := fs.FileMode(0o644), 0, 0
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err == nil {
		mode, owner, group = fs.FileMode(st.Mode).Perm(), int(st.Uid), int(st.Gid)
	}
	// A name that no pattern for *.toml matches.
	f, err := os.CreateTemp(filepath.Dir(at), "."+filepath.Base(at)+".*.hachi")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Chown(owner, group), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), at)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Remove removes a file of the host; it may be missing.
func (h Host) Remove(name string) error {
	at, err := h.At(name)
	if err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
