package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MinKernel is the oldest kernel that hachi's programs are tested on.
const MinKernel = "6.1"

const (
	everything = "accounting, flows, redirection"
	btfPath    = "/sys/kernel/btf/vmlinux"
	bpffsPath  = "/sys/fs/bpf"
)

// machine asks about what surrounds the programs.
func machine() []question {
	return []question{
		{"kernel", everything, "Linux " + MinKernel, kernel},
		{"cgroup2", everything, "cgroup2 mounted, also beside cgroup v1: mount -t cgroup2 none /sys/fs/cgroup/unified", func() error {
			_, err := Cgroup2()
			return err
		}},
		{"privilege", everything, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN in the machine's user namespace: run as root", Privilege},
		{"bpffs", everything, "a BPF file system, on " + bpffsPath + " or to be mounted there (CONFIG_BPF_SYSCALL)", bpffs},
		{"kernel types", "flows", "the kernel's own type information, " + btfPath + " (CONFIG_DEBUG_INFO_BTF)", func() error {
			f, err := os.Open(btfPath)
			if errors.Is(err, fs.ErrNotExist) {
				return absent("%w", err)
			}
			if err != nil {
				return err
			}
			return f.Close()
		}},
	}
}

func kernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor, wantMajor, wantMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("kernel release %q: %w", release, err)
	}
	if _, err := fmt.Sscanf(MinKernel, "%d.%d", &wantMajor, &wantMinor); err != nil {
		return err
	}
	if major < wantMajor || major == wantMajor && minor < wantMinor {
		return absent("this is Linux %s", release)
	}
	return nil
}

// Cgroup2 returns where the whole cgroup2 hierarchy is mounted: /sys/fs/cgroup, or on a hybrid host
// /sys/fs/cgroup/unified. Programs attach there even if no controller is.
func Cgroup2() (mount string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// "36 35 98:0 /root /mount/point options ... - type source options", proc(5).
		mount, fsType, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if ok && strings.HasPrefix(fsType, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", absent("cgroup2 is mounted nowhere")
}

func bpffs() error {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffsPath, &st); err == nil && st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(known)) {
		if strings.HasSuffix(strings.TrimSpace(line), "\tbpf") {
			return nil // Open mounts it
		}
	}
	return absent("this kernel has no BPF file system")
}

// Privilege is nil if this process may load and attach all of hachi's programs.
func Privilege() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}} {
		if sets[c.bit/32].Effective>>(c.bit%32)&1 == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return absent("this process has no %s", strings.Join(missing, ", "))
	}
	return nil
}
