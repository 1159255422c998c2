package pin

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A Set is one object file's programs and maps, loaded once per node and shared by all pods: what differs from pod to
// pod belongs into maps, not into constants.
type Set struct {
	// Name tells sets apart: "account".
	Name string
	// Object is the ELF file. Its checksum names the programs' directory, so another build is another directory.
	Object []byte
	// Spec parses Object. It is called by Load only.
	Spec func() (*ebpf.CollectionSpec, error)
	// Hooks are the programs that Attach links.
	Hooks []Hook
	// Ready, if not nil, runs at the end of Load, before older builds go: the place to fill program arrays.
	Ready func(*Layout, *ebpf.Collection) error
}

// A Hook is a program's place: the name of its link's pin, of the program in the object, and of the attach type.
type Hook struct {
	Name    string
	Program string
	Attach  ebpf.AttachType
}

func (l *Layout) programs(s Set) string {
	sum := crc32.ChecksumIEEE(s.Object)
	return filepath.Join(l.dir, "prog", fmt.Sprintf("%s-%08x", s.Name, sum))
}

// Tried reports whether this build of the set was loaded, or could not be: see GiveUp.
func (l *Layout) Tried(s Set) bool {
	_, err := os.Stat(l.programs(s))
	return err == nil
}

// GiveUp notes that this build cannot be loaded here, so that not every process tries again.
func (l *Layout) GiveUp(s Set) error {
	if err := os.Mkdir(l.programs(s), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make pin directory: %w", err)
	}
	return nil
}

// Program opens one pinned program of the set: of this build or, if another build took its place, of that one, which
// fits as well. fs.ErrNotExist if the set was not loaded. The caller closes it.
func (l *Layout) Program(s Set, name string) (*ebpf.Program, error) {
	p, err := ebpf.LoadPinnedProgram(filepath.Join(l.programs(s), name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		others, _ := filepath.Glob(filepath.Join(l.dir, "prog", s.Name+"-????????", name)) // the pattern is well-formed
		for _, path := range others {
			if p, err = ebpf.LoadPinnedProgram(path, nil); err == nil {
				break
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open program %s: %w", name, err)
	}
	return p, nil
}

// Load makes sure that this build of the set is loaded and pinned. Maps that an older build pinned are kept with what
// they hold, every link of an older build is given its new program without a gap, and the older build's programs are
// unpinned. The caller holds Lock. Nothing is left half done: a killed Load is done over by the next.
//
// Builds that are used in turns replace each other in turns; counts are right all the same.
//
// Load reads the kernel's BTF and needs some 10 MB of memory for a moment.
func (l *Layout) Load(ctx context.Context, s Set) error {
	dir := l.programs(s)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil
	}
	spec, err := s.Spec()
	if err != nil {
		return fmt.Errorf("load %s: %w", s.Name, err)
	}
	for name, m := range spec.Maps {
		if !strings.HasPrefix(name, ".") { // sections of constants
			m.Pinning = ebpf.PinByName
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: l.Maps()}})
	if err != nil {
		return fmt.Errorf("load %s: %w", s.Name, err)
	}
	defer c.Close()

	half := dir + "-half"
	if err := errors.Join(os.RemoveAll(half), os.RemoveAll(dir), os.Mkdir(half, 0o700)); err != nil {
		return fmt.Errorf("load %s: %w", s.Name, err)
	}
	for name, p := range c.Programs {
		if err := p.Pin(filepath.Join(half, name)); err != nil {
			return fmt.Errorf("load %s: pin %s: %w", s.Name, name, err)
		}
	}
	if s.Ready != nil {
		if err := s.Ready(l, c); err != nil {
			return fmt.Errorf("load %s: %w", s.Name, err)
		}
	}
	if err := l.replace(s, c.Programs); err != nil {
		return err
	}
	if err := os.Rename(half, dir); err != nil {
		return fmt.Errorf("load %s: %w", s.Name, err)
	}
	return l.removeOlder(s)
}

// replace gives every pod's links the programs of a new build. A pod that goes meanwhile is no error.
func (l *Layout) replace(s Set, programs map[string]*ebpf.Program) error {
	ids, err := l.Pods()
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, h := range s.Hooks {
			ln, err := link.LoadPinnedLink(l.Link(id, h.Name), nil)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("update link %s of cgroup %d: %w", h.Name, id, err)
			}
			err = ln.Update(programs[h.Program])
			ln.Close()
			if err != nil && !severed(err) {
				return fmt.Errorf("update link %s of cgroup %d: %w", h.Name, id, err)
			}
		}
	}
	return nil
}

func (l *Layout) removeOlder(s Set) error {
	all, err := filepath.Glob(filepath.Join(l.dir, "prog", s.Name+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range all {
		if dir == l.programs(s) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove programs of an older build: %w", err)
		}
	}
	return nil
}
