package bpfenv

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Figures are the kernel's own counters of a network namespace, as nstat(8) shows them: "TcpActiveOpens",
// "IpExtInOctets", "Ip6InOctets".
type Figures map[string]uint64

// Figures reads the namespace's.
func (n *Netns) Figures(t testing.TB) Figures {
	t.Helper()
	f := Figures{}
	var err error
	n.Do(t, func() {
		for _, file := range []string{"snmp", "netstat"} {
			if err = f.paired("/proc/thread-self/net/" + file); err != nil {
				return
			}
		}
		err = f.listed("/proc/thread-self/net/snmp6")
	})
	if err != nil {
		t.Fatalf("read the kernel's figures: %v", err)
	}
	return f
}

// Sub returns what was counted since an earlier reading.
func (f Figures) Sub(earlier Figures) Figures {
	d := Figures{}
	for name, v := range f {
		d[name] = v - earlier[name]
	}
	return d
}

// paired reads lines of names, each followed by a line of values, both beginning with "Group:".
func (f Figures) paired(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("%s: %q does not belong to %q", path, lines[i+1], lines[i])
		}
		for j := 1; j < len(names); j++ {
			// TcpMaxConn is -1.
			v, _ := strconv.ParseInt(values[j], 10, 64)
			f[strings.TrimSuffix(names[0], ":")+names[j]] = uint64(v)
		}
	}
	return nil
}

// listed reads lines of a name and a value.
func (f Figures) listed(path string) error {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) { // a kernel without IPv6
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %q: %w", path, line, err)
		}
		f[name] = v
	}
	return nil
}

// KernelBefore reports whether this kernel is older than a version.
func KernelBefore(t testing.TB, major, minor int) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var haveMajor, haveMinor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &haveMajor, &haveMinor); err != nil {
		t.Fatalf("kernel release %q: %v", release, err)
	}
	return haveMajor < major || haveMajor == major && haveMinor < minor
}
