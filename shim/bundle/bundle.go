// Package bundle reads the directory that containerd makes for a container, and leaves a note in it of
// what a crash would leave behind.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxSpec bounds config.json, in bytes. containerd's own limit on messages is 16 MiB.
const maxSpec = 16 << 20

const leftovers = "hachi.json"

// Annotations of CRI that say what a container is to its pod.
const (
	containerType = "io.kubernetes.cri.container-type"
	sandboxType   = "sandbox"
)

// Bundle is one container's directory and its specification.
type Bundle struct {
	// Path is absolute.
	Path string
	// Spec is what hachi reads of config.json; see parse. Process and Linux are never nil.
	Spec *specs.Spec
}

// Open reads the bundle at path. Its errors are of the kinds NotFound and InvalidArgument.
func Open(path string) (Bundle, error) {
	b := Bundle{Path: path}
	data, err := b.read()
	if errors.Is(err, fs.ErrNotExist) {
		return b, fmt.Errorf("open bundle: %w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return b, fmt.Errorf("open bundle: %w", err)
	}
	if b.Spec, err = parse(data); err != nil {
		return b, fmt.Errorf("open bundle: %s: %w", b.config(), err)
	}
	return b, nil
}

func (b Bundle) config() string { return filepath.Join(b.Path, "config.json") }

// read reads config.json, and one byte more than there may be.
func (b Bundle) read() ([]byte, error) {
	f, err := os.Open(b.config())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSpec+1))
}

// Mount adds mounts to the specification, except where it mounts something of its own, and tells whether it added any.
func (b Bundle) Mount(mounts []specs.Mount) (added bool) {
	for _, m := range mounts {
		taken := slices.ContainsFunc(b.Spec.Mounts, func(own specs.Mount) bool {
			return filepath.Clean(own.Destination) == m.Destination
		})
		if !taken {
			b.Spec.Mounts, added = append(b.Spec.Mounts, m), true
		}
	}
	return added
}

// Save writes the specification's mounts and namespaces back to config.json, and leaves the rest of it as it is.
func (b Bundle) Save() error {
	whole := new(specs.Spec)
	data, err := b.read()
	if err == nil {
		err = json.Unmarshal(data, whole)
	}
	if err == nil {
		if whole.Linux == nil {
			whole.Linux = new(specs.Linux)
		}
		whole.Linux.Namespaces = b.Spec.Linux.Namespaces
		// Mount adds at the end.
		whole.Mounts = append(whole.Mounts, b.Spec.Mounts[min(len(whole.Mounts), len(b.Spec.Mounts)):]...)
		data, err = json.Marshal(whole)
	}
	if err != nil {
		return fmt.Errorf("save bundle: %w", err)
	}
	if err := os.WriteFile(b.config()+".new", data, 0o600); err != nil {
		return fmt.Errorf("save bundle: %w", err)
	}
	if err := os.Rename(b.config()+".new", b.config()); err != nil {
		return fmt.Errorf("save bundle: %w", err)
	}
	return nil
}

// Sandbox tells whether the bundle is a pod's pause container.
func (b Bundle) Sandbox() bool { return b.Spec.Annotations[containerType] == sandboxType }

// Leftovers are what outlives the server if it is killed. The launcher's delete removes them.
type Leftovers struct {
	// Cgroups are absolute directories, one for each hierarchy; whatever still runs in them is killed.
	Cgroups []string `json:"cgroups,omitempty"`
	// Sockets are removed when nobody listens on them.
	Sockets []string `json:"sockets,omitempty"`
	// Exit is how the container ended; nil while it runs. Package launch reads it.
	Exit *Exit `json:"exit,omitempty"`
}

// Exit is a container's end.
type Exit struct {
	// Status is the exit code, 128+signal if a signal ended it.
	Status uint32 `json:"status"`
	// At is the time in nanoseconds since 1970.
	At int64 `json:"at"`
}

// Record writes l into the bundle, in the place of an older record. Whenever the server is killed there is a whole one.
func (b Bundle) Record(l Leftovers) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("record leftovers: %w", err)
	}
	name := filepath.Join(b.Path, leftovers)
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return fmt.Errorf("record leftovers: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("record leftovers: %w", err)
	}
	return nil
}

// Forget removes the record when nothing is left. A bundle that is gone has nothing to forget.
func (b Bundle) Forget() error {
	err := os.Remove(filepath.Join(b.Path, leftovers))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget leftovers: %w", err)
	}
	return nil
}
