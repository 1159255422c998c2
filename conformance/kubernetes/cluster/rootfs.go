package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where a node finds what it does not own; read-only there.
const (
	nodeTools  = "/opt/tools" // bin/tools
	nodeHachi  = "/opt/hachi" // only with Options.Hachi
	nodeCNI    = "/opt/cni/bin"
	nodeLogs   = "/var/log/node"
	oldRootDir = "/.host"
)

// rootFS fills the directory that becomes a node's root: the node has its own /etc, /var, /opt and so on, on the
// disk below bin/.cluster, and the host's /usr read-only.
func rootFS(l Layout, m machine, o Options) error {
	root := l.State(m.name(), "root")
	dirs := []string{
		"dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var/tmp", "var/lib/kubelet", nodeLogs, nodeTools, nodeCNI,
		"etc/cni/net.d", "etc/containerd/conf.d", "etc/containerd/certs.d/" + Registry, "etc/kubernetes", oldRootDir,
	}
	if o.Hachi {
		dirs = append(dirs, nodeHachi+"/bin")
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	// What go install and an administrator put there is not the node's.
	if err := os.MkdirAll(l.State(m.name(), "usr-local", "bin"), 0o755); err != nil {
		return err
	}
	ctr := l.State(m.name(), "usr-local", "bin", "ctr")
	if err := os.Symlink(filepath.Join(nodeTools, containerdTools, "ctr"), ctr); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o1777); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range []string{"passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "protocols", "services", "localtime"} {
		raw, err := os.ReadFile("/etc/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes root the root of this process's own mount namespace.
func enterRoot(l Layout, m machine, o Options) error {
	root := l.State(m.name(), "root")
	in := func(path string) string { return filepath.Join(root, path) }
	mounts := []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{root, root, "", unix.MS_BIND},
		{"/usr", in("usr"), "", unix.MS_BIND | unix.MS_REC},
		{"", in("usr"), "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{l.State(m.name(), "usr-local"), in("usr/local"), "", unix.MS_BIND},
		{l.Tool(), in(nodeTools), "", unix.MS_BIND},
		{"", in(nodeTools), "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{l.Tool(cniTools), in(nodeCNI), "", unix.MS_BIND},
		{"", in(nodeCNI), "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{l.State("log"), in(nodeLogs), "", unix.MS_BIND},
		{"proc", in("proc"), "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		// A new one shows this network namespace's interfaces.
		{"sysfs", in("sys"), "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys/fs/cgroup", in("sys/fs/cgroup"), "", unix.MS_BIND | unix.MS_REC},
		// A file system of its own: pins end with the node.
		{"bpf", in("sys/fs/bpf"), "bpf", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/dev", in("dev"), "", unix.MS_BIND | unix.MS_REC},
		{"tmpfs", in("run"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	}
	if o.Hachi {
		mounts = append(mounts, []struct {
			from, to, kind string
			flags          uintptr
		}{
			{l.Bin(), in(nodeHachi + "/bin"), "", unix.MS_BIND},
			{"", in(nodeHachi + "/bin"), "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		}...)
	}
	for _, mount := range mounts {
		if err := unix.Mount(mount.from, mount.to, mount.kind, mount.flags, ""); err != nil {
			return fmt.Errorf("mount %s%s at %s: %w", mount.kind, mount.from, mount.to, err)
		}
	}
	if err := hostLinks(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, in(oldRootDir)); err != nil {
		return fmt.Errorf("enter the node's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount(oldRootDir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	// As on a machine where systemd has booted: volumes with bidirectional propagation need it.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// hostLinks gives root the host's /bin, /lib and so on, which are links into /usr almost everywhere, and what of
// /etc links and libraries of the host point to.
func hostLinks(root string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "etc/ssl", "etc/alternatives"} {
		to := filepath.Join(root, name)
		link, err := os.Readlink("/" + name)
		if err == nil {
			if err := os.Symlink(strings.TrimPrefix(link, "/"), to); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		if _, err := os.Stat("/" + name); err != nil {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/"+name, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", to, err)
		}
		if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount %s read-only: %w", to, err)
		}
	}
	return nil
}
