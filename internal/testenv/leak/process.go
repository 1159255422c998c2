package leak

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Process is one row of /proc; times and numbers are the kernel's.
type Process struct {
	PID, Parent, Group int
	// State is 'Z' for a zombie.
	State byte
	// Start is in clock ticks since boot; with PID it names a process for ever.
	Start string
	Comm  string
}

// Processes lists all processes of this pid namespace.
func Processes() []Process {
	var all []Process
	for _, name := range listDir("/proc") {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := stat(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// Children lists the direct children of this process without reading the whole of /proc; it needs
// CONFIG_PROC_CHILDREN and lists nothing without it.
func Children() []Process {
	var all []Process
	for _, task := range listDir("/proc/self/task") {
		raw, _ := os.ReadFile("/proc/self/task/" + task + "/children")
		for _, field := range strings.Fields(string(raw)) {
			pid, _ := strconv.Atoi(field)
			if p, ok := stat(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// stat reads proc(5), /proc/pid/stat. The command may hold spaces and brackets, so look for the last one.
func stat(pid int) (Process, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := strings.IndexByte(string(raw), '('), strings.LastIndexByte(string(raw), ')')
	if err != nil || open < 0 || end < open {
		return Process{}, false
	}
	f := strings.Fields(string(raw[end+1:]))
	if len(f) < 20 {
		return Process{}, false
	}
	p := Process{PID: pid, State: f[0][0], Start: f[19], Comm: string(raw[open+1 : end])}
	p.Parent, _ = strconv.Atoi(f[1])
	p.Group, _ = strconv.Atoi(f[2])
	return p, true
}

// Below lists the living processes below this one in the process tree. Those in its own process group are left
// out: they are the commands it runs and waits for itself.
func Below() []Process {
	all := Processes()
	below := map[int]bool{os.Getpid(): true}
	for again := true; again; {
		again = false
		for _, p := range all {
			if below[p.Parent] && !below[p.PID] {
				below[p.PID], again = true, true
			}
		}
	}
	self, _ := stat(os.Getpid())
	return slices.DeleteFunc(all, func(p Process) bool {
		return !below[p.PID] || p.Group == self.Group || p.State == 'Z'
	})
}

func (p Process) String() string {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	args := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	return fmt.Sprintf("%d@%s %s: %.160s", p.PID, p.Start, p.Comm, args)
}
