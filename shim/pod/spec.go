package pod

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/jail"
)

// graceAnnotation shortens the time that open connections have after a stop signal, for example "3s".
const graceAnnotation = "hachi.run/stop-grace"

// rootSpec is a container's root file system in the jail's terms, and how its engines are born.
type rootSpec struct {
	root       jail.Root
	cloneflags uintptr
}

// newRootSpec reads the file systems and namespaces of spec. Errors are InvalidArgument.
func newRootSpec(spec *specs.Spec, bundle string, rootfs []specs.Mount) (*rootSpec, error) {
	r := &rootSpec{cloneflags: syscall.CLONE_NEWNS}
	for _, ns := range spec.Linux.Namespaces {
		switch {
		case ns.Type == specs.UserNamespace:
			return nil, fmt.Errorf("user namespaces are not supported for Wasm containers: %w (drop hostUsers: false or --uidmap)", errdefs.ErrInvalidArgument)
		case ns.Type == specs.PIDNamespace && ns.Path == "":
			r.cloneflags |= syscall.CLONE_NEWPID
		}
	}
	r.root = jail.Root{
		Path:          "rootfs",
		Rootfs:        mounts(rootfs),
		Mounts:        mounts(spec.Mounts),
		MaskedPaths:   spec.Linux.MaskedPaths,
		ReadonlyPaths: spec.Linux.ReadonlyPaths,
	}
	if spec.Root != nil {
		r.root.ReadOnly = spec.Root.Readonly
		if spec.Root.Path != "" {
			r.root.Path = spec.Root.Path
		}
	}
	if !filepath.IsAbs(r.root.Path) {
		r.root.Path = filepath.Join(bundle, r.root.Path)
	}
	return r, nil
}

func mounts(in []specs.Mount) []jail.Mount {
	out := make([]jail.Mount, len(in))
	for i, m := range in {
		out[i] = jail.Mount{Target: m.Destination, Type: m.Type, Source: m.Source, Options: m.Options}
	}
	return out
}

// jailFor is the jail of one process of the container.
func (r *rootSpec) jailFor(p *specs.Process) jail.Config {
	root := r.root
	c := jail.Config{
		Root:        &root,
		User:        &jail.User{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids, Umask: p.User.Umask},
		OOMScoreAdj: p.OOMScoreAdj,
	}
	for _, l := range p.Rlimits {
		c.Rlimits = append(c.Rlimits, jail.Rlimit{Type: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	return c
}

// checkUser refuses the one number that is no user's or group's: for setresuid(2) it means no change, which leaves
// the engine root.
func checkUser(u specs.User) error {
	for _, id := range append([]uint32{u.UID, u.GID}, u.AdditionalGids...) {
		if id == math.MaxUint32 {
			return fmt.Errorf("user %d:%d, groups %v: %d is no id: %w", u.UID, u.GID, u.AdditionalGids, id, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func resources(spec *specs.Spec) *specs.LinuxResources {
	if spec.Linux.Resources != nil {
		return spec.Linux.Resources
	}
	return new(specs.LinuxResources)
}

// cgroupsPath is where the container's cgroup goes: as the spec says, or where runc would put it.
func cgroupsPath(spec *specs.Spec, namespace, id string) string {
	path := spec.Linux.CgroupsPath
	switch {
	case path == "":
		return filepath.Join("/", namespace, id)
	case strings.Contains(path, ":"), filepath.IsAbs(path):
		return path
	default:
		return filepath.Join("/", path)
	}
}

// leastMemory is what an engine needs before it has loaded anything, in bytes. With less the kernel would not fail it, but
// the server's own thread that starts it in the cgroup, and that thread is needed for other containers.
const leastMemory = 4 << 20

// checkLimits refuses limits with which nothing can start.
func checkLimits(r *specs.LinuxResources) error {
	if limit := ceiling(r); limit > 0 && limit < leastMemory {
		return fmt.Errorf("memory limit of %d bytes: an engine alone needs %d: %w (give the container 16Mi or more)", limit, leastMemory, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ceiling is the limit of a guest's linear memory in bytes; 0 is none.
func ceiling(r *specs.LinuxResources) uint64 {
	if r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0 {
		return 0
	}
	return uint64(*r.Memory.Limit)
}

// grace is the pod's own grace period where it is shorter than the operator's.
func grace(annotations map[string]string, most time.Duration) time.Duration {
	d, err := time.ParseDuration(annotations[graceAnnotation])
	if err != nil || d < 0 {
		return most
	}
	return min(d, most)
}

// checkAnnotations reports hachi's annotations that do not parse, all at once.
func checkAnnotations(annotations map[string]string) error {
	var wrong []string
	if v, ok := annotations[graceAnnotation]; ok {
		if d, err := time.ParseDuration(v); err != nil || d < 0 {
			wrong = append(wrong, fmt.Sprintf("annotation %s=%q: not a duration (write 3s or 500ms)", graceAnnotation, v))
		}
	}
	if _, err := addresses(annotations[listenAnnotation]); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s: %w", strings.Join(wrong, "; "), errdefs.ErrInvalidArgument)
}
