package pod

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/sandbox"
)

// furnish sets the host name and the sysctls of namespaces that are the container's own. The launcher made those, of
// the pod's first container, before the server began; those of other containers are named by a path and were
// furnished by the first, but sysctls go to where the container runs.
func furnish(spec *specs.Spec) error {
	own := func(kind specs.LinuxNamespaceType) bool {
		return slices.Contains(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	if own(specs.UTSNamespace) && spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", spec.Hostname, err)
		}
	}
	// A network namespace of CRI's has a path and is the pod's own all the same.
	return sandbox.SetSysctls(spec.Linux.Sysctl, sandbox.Own{Network: joins(spec, specs.NetworkNamespace), IPC: joins(spec, specs.IPCNamespace)})
}

// joins tells whether the container has a namespace of that kind, new or not, instead of the host's.
func joins(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}
