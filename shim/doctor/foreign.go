package doctor

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
)

// deepest is how far down the cgroup2 tree programs are looked for; most are the number of groups that are looked at.
// Pods are in the first few levels, and whoever attaches to more than a pod does so at one of them.
const (
	deepest = 4
	most    = 4096
)

// hooks are the places of our programs.
var hooks = []pin.Hook{
	{Name: "ingress", Attach: ebpf.AttachCGroupInetIngress},
	{Name: "egress", Attach: ebpf.AttachCGroupInetEgress},
	{Name: "sock_ops", Attach: ebpf.AttachCGroupSockOps},
	{Name: "connect4", Attach: ebpf.AttachCGroupInet4Connect},
	{Name: "connect6", Attach: ebpf.AttachCGroupInet6Connect},
}

// foreign looks for programs that keep ours out of the groups below them, or that ours would push aside.
func foreign(root string) Finding {
	const name = "no exclusive eBPF program"
	if root == "" {
		return unknown(name, forAccounting, "there is no cgroup2 tree to look at")
	}
	var found []string
	seen := 0
	err := filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil && dir != root {
			return nil // a group that went meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		if seen++; seen > most {
			return fs.SkipAll
		}
		here, err := exclusive(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		found = append(found, here...)
		if strings.Count(strings.TrimPrefix(dir, root), "/") >= deepest {
			return fs.SkipDir
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return unknown(name, forAccounting, "the kernel tells root alone")
	case err != nil:
		return unknown(name, forAccounting, "%v", err)
	case len(found) > 0:
		return missing(name, forAccounting, "its owner to attach with BPF_F_ALLOW_MULTI; pods below run without accounting, or it does not see them", "%s", strings.Join(found, ", "))
	}
	return ok(name, forAccounting, "in %d cgroups", seen)
}

// exclusive lists the programs at a cgroup that do not share their place (bpf(2), BPF_F_ALLOW_MULTI).
func exclusive(dir string) ([]string, error) {
	found, err := pin.ForeignersAt(dir, hooks)
	out := make([]string, len(found))
	for k, f := range found {
		h := slices.IndexFunc(hooks, func(h pin.Hook) bool { return h.Attach == f.Attach })
		out[k] = hooks[h].Name + " at " + f.Cgroup
	}
	return out, err
}
