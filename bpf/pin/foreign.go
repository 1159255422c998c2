package pin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrExclusive is a program of somebody else's that allows no other beside it.
var ErrExclusive = errors.New("exclusive program")

// Foreign is a program of somebody else's on a cgroup or one above it, in a mode that allows no other beside it.
type Foreign struct {
	Cgroup string // the directory that it is attached to
	Attach ebpf.AttachType
	ID     ebpf.ProgramID
	Name   string // empty if it has none, or may not be asked
	// Exclusive: nobody may attach here or below. Otherwise anybody may (BPF_F_ALLOW_OVERRIDE), and then this program
	// no longer runs for what is below.
	Exclusive bool
}

func (f Foreign) String() string {
	return fmt.Sprintf("program %q (id %d, %v) on %s", f.Name, f.ID, f.Attach, f.Cgroup)
}

// Foreigners lists the programs that a link of one of the hooks collides with at a cgroup2 directory. Programs that
// share (BPF_F_ALLOW_MULTI), as every link does, are none.
func Foreigners(cgroup string, hooks []Hook) ([]Foreign, error) {
	var all []Foreign
	for dir := filepath.Clean(cgroup); ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return nil, fmt.Errorf("look for other programs: %s: %w", dir, err)
		}
		if st.Type != unix.CGROUP2_SUPER_MAGIC {
			return all, nil
		}
		here, err := ForeignersAt(dir, hooks)
		if err != nil {
			return nil, err
		}
		all = append(all, here...)
		if dir == filepath.Dir(dir) {
			return all, nil
		}
	}
}

// ForeignersAt is Foreigners for the programs attached to this very directory. A hook that the kernel does not have nobody
// is on.
func ForeignersAt(dir string, hooks []Hook) ([]Foreign, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("look for other programs: %w", err)
	}
	defer f.Close()
	var found []Foreign
	for _, h := range hooks {
		ids, flags, err := query(f, h.Attach, 0)
		if errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for other programs: %s: %v: %w", dir, h.Attach, err)
		}
		if flags&unix.BPF_F_ALLOW_MULTI != 0 {
			continue
		}
		for _, id := range ids {
			found = append(found, Foreign{dir, h.Attach, id, programName(id), flags&unix.BPF_F_ALLOW_OVERRIDE == 0})
		}
	}
	return found, nil
}

// effective reports whether any program runs for the cgroup at one of the hooks, wherever it is attached.
func effective(cgroup *os.File, hooks []Hook) bool {
	for _, h := range hooks {
		if ids, _, err := query(cgroup, h.Attach, unix.BPF_F_QUERY_EFFECTIVE); err == nil && len(ids) > 0 {
			return true
		}
	}
	return false
}

// Displaced lists the programs that stop to run for a cgroup once a link of the hooks is attached to it. It costs three
// system calls if no program runs for the cgroup.
func Displaced(cgroup *os.File, hooks []Hook) ([]Foreign, error) {
	if !effective(cgroup, hooks) {
		return nil, nil
	}
	all, err := Foreigners(cgroup.Name(), hooks)
	var displaced []Foreign
	for _, f := range all {
		if !f.Exclusive {
			displaced = append(displaced, f)
		}
	}
	return displaced, err
}

// collision finds out why the kernel let nobody attach.
func collision(cgroup string, h Hook, err error) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	all, ferr := Foreigners(cgroup, []Hook{h})
	if ferr != nil {
		return err
	}
	for _, f := range all {
		if f.Exclusive || f.Cgroup == filepath.Clean(cgroup) {
			return fmt.Errorf("%w: %v allows no other beside it: %w (have its owner attach it with BPF_F_ALLOW_MULTI, or as a link)", ErrExclusive, f, err)
		}
	}
	return err
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// query is BPF_PROG_QUERY of bpf(2). The library's has no way to the flags.
func query(target *os.File, attach ebpf.AttachType, flags uint32) (ids []ebpf.ProgramID, attachFlags uint32, err error) {
	for room := 64; ; room *= 2 {
		ids = make([]ebpf.ProgramID, room)
		attr := struct {
			targetFD, attachType, queryFlags, attachFlags uint32
			programIDs                                    uint64
			count, _                                      uint32
		}{
			targetFD: uint32(target.Fd()), attachType: uint32(attach), queryFlags: flags,
			programIDs: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(room),
		}
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		runtime.KeepAlive(ids)
		runtime.KeepAlive(target)
		switch errno {
		case 0:
			return ids[:attr.count], attr.attachFlags, nil
		case unix.ENOSPC:
			continue
		}
		return nil, 0, errno
	}
}
