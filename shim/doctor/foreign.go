package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// deepest is how far down the cgroup2 tree programs are looked for; most are the number of groups that are looked at.
// Pods are in the first few levels, and whoever attaches to more than a pod does so at one of them.
const (
	deepest = 4
	most    = 4096
)

// attachments are the places of our programs.
var attachments = []struct {
	name   string
	attach ebpf.AttachType
}{
	{"ingress", ebpf.AttachCGroupInetIngress},
	{"egress", ebpf.AttachCGroupInetEgress},
	{"sock_ops", ebpf.AttachCGroupSockOps},
	{"connect4", ebpf.AttachCGroupInet4Connect},
	{"connect6", ebpf.AttachCGroupInet6Connect},
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
			return fmt.Errorf("%s: %w", dir, err)
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
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for _, a := range attachments {
		q, err := query(f, a.attach)
		if errors.Is(err, unix.EINVAL) {
			continue // not in this kernel, which another line says
		}
		if err != nil {
			return nil, err
		}
		if q.count > 0 && q.attachFlags&unix.BPF_F_ALLOW_MULTI == 0 {
			out = append(out, a.name+" at "+dir)
		}
	}
	return out, nil
}

// progQuery is bpf(2)'s attribute for BPF_PROG_QUERY. The ebpf package's own query does not tell the flags.
type progQuery struct {
	target, attachType      uint32
	queryFlags, attachFlags uint32
	progIDs                 uint64
	count, _                uint32
}

func query(cgroup *os.File, attach ebpf.AttachType) (progQuery, error) {
	q := progQuery{target: uint32(cgroup.Fd()), attachType: uint32(attach)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	if errno != 0 {
		return q, errno
	}
	return q, nil
}
