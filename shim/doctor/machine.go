package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest kernels on which pods run, and on which the eBPF programs are tested.
var (
	podKernel = version{5, 14}
	bpfKernel = version{6, 1}
)

type version [2]int

func (v version) String() string { return fmt.Sprintf("%d.%d", v[0], v[1]) }

func (v version) before(w version) bool { return v[0] < w[0] || v[0] == w[0] && v[1] < w[1] }

func kernel() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return unknown("kernel", forPods, "uname: %v", err)
	}
	return judgeKernel(unix.ByteSliceToString(u.Release[:]))
}

func judgeKernel(release string) Finding {
	var v version
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err != nil {
		return unknown("kernel", forPods, "release %q is not a version", release)
	}
	switch {
	case v.before(podKernel):
		return missing("kernel", forPods, fmt.Sprintf("Linux %v or later; %v for accounting and redirection", podKernel, bpfKernel), "Linux %s", release)
	case v.before(bpfKernel):
		return missing("kernel", forAccounting, fmt.Sprintf("Linux %v or later; pods run without", bpfKernel), "Linux %s", release)
	}
	return ok("kernel", forPods, "Linux %s", release)
}

// Capabilities of capabilities(7) that the shim uses, beside being root.
var capabilities = []struct {
	bit  int
	name string
	need string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", forPods},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", forAccounting},
	{unix.CAP_BPF, "CAP_BPF", forAccounting},
	{unix.CAP_PERFMON, "CAP_PERFMON", forAccounting},
}

func privileges() Finding {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return unknown("privileges", forPods, "capget: %v", err)
	}
	return judgePrivileges(os.Geteuid(), uint64(data[1].Effective)<<32|uint64(data[0].Effective))
}

func judgePrivileges(uid int, effective uint64) Finding {
	if uid != 0 {
		return missing("privileges", forPods, "root; hachi run works without", "user %d", uid)
	}
	need, lacks := "", []string{}
	for _, c := range capabilities {
		if effective&(1<<c.bit) == 0 {
			lacks = append(lacks, c.name)
			if need == "" {
				need = c.need
			}
		}
	}
	if len(lacks) > 0 {
		return missing("privileges", need, strings.Join(lacks, ", "), "root with fewer capabilities")
	}
	return ok("privileges", forPods, "root")
}

// artifacts judges the store of compiled modules as package store does, without making it.
func artifacts(dir string) Finding {
	const name = "artefact store"
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ok(name, forPods, "%s is made at the first start", dir)
	case err != nil:
		return unknown(name, forPods, "%s: %v", dir, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return missing(name, forPods, "a directory at "+dir+"; without it modules are compiled at every start", "%s is not one", dir)
	case st.Uid != 0:
		return missing(name, forPods, "chown root "+dir+"; without it modules are compiled at every start", "%s belongs to user %d", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return missing(name, forPods, "chmod 0700 "+dir+"; without it modules are compiled at every start", "others may write to %s", dir)
	}
	return ok(name, forPods, "%s", dir)
}

func btf(file string) Finding {
	_, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing("BTF", forAccounting, "a kernel built with CONFIG_DEBUG_INFO_BTF=y", "no %s", file)
	case err != nil:
		return unknown("BTF", forAccounting, "%v", err)
	}
	return ok("BTF", forAccounting, "%s", file)
}
