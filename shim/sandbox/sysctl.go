package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Own tells which namespaces are a pod's own, and not the node's.
type Own struct{ Network, IPC bool }

// ofIPC are the sysctls of an IPC namespace beside fs.mqueue's (ipc_namespaces(7)).
var ofIPC = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// SetSysctls writes sysctls of the namespaces that the process is in now, by their dotted names. One that concerns more
// than the namespaces that are the pod's own is InvalidArgument, for it would change the node; nothing is
// written then.
func SetSysctls(sysctls map[string]string, own Own) error {
	names := slices.Sorted(maps.Keys(sysctls))
	var wrong []error
	for _, name := range names {
		if err := own.check(name); err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	for _, name := range names {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if err := os.WriteFile(path, []byte(sysctls[name]), 0); err != nil {
			wrong = append(wrong, fmt.Errorf("sysctl %s=%s: %w", name, sysctls[name], err))
		}
	}
	return errors.Join(wrong...)
}

func (o Own) check(name string) error {
	network, ipc := strings.HasPrefix(name, "net."), strings.HasPrefix(name, "fs.mqueue.") || slices.Contains(ofIPC, name)
	switch {
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("sysctl %q: not a name with dots: %w", name, errdefs.ErrInvalidArgument)
	case !network && !ipc:
		return fmt.Errorf("sysctl %s: it is the node's, not a pod's: %w (a pod may set net.*, fs.mqueue.* and those of System V IPC)",
			name, errdefs.ErrInvalidArgument)
	case network && !o.Network:
		return fmt.Errorf("sysctl %s: the pod has the node's network: %w (give it its own)", name, errdefs.ErrInvalidArgument)
	case ipc && !o.IPC:
		return fmt.Errorf("sysctl %s: the pod has the node's IPC: %w (give it its own)", name, errdefs.ErrInvalidArgument)
	}
	return nil
}
