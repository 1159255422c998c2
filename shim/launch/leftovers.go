package launch

import (
	"bytes"
	"errors"
	"strconv"
	"syscall"
)

// LeftoversFile is the file in a bundle that holds the container's Leftovers as JSON.
const LeftoversFile = "hachi.json"

// Leftovers is what a Wasm container leaves on the host if its server dies. The server writes it to
// LeftoversFile in the bundle when it creates the container, and again when it changes; delete reads it.
type Leftovers struct {
	// PIDs are the container's processes, its first process first.
	PIDs []Process `json:"pids,omitempty"`
	// Cgroups are absolute paths of the container's cgroup directories, one per hierarchy.
	Cgroups []string `json:"cgroups,omitempty"`
	// Sockets are absolute paths of sockets to remove when nobody listens on them any more.
	Sockets []string `json:"sockets,omitempty"`
	// Exit is how the container ended, if the server saw it; delete repeats it instead of 137.
	Exit *Exit `json:"exit,omitempty"`
}

// Process is a process that cannot be mistaken for a later one with the same number.
type Process struct {
	PID int `json:"pid"`
	// Start is the process's start time, ProcessStart, in clock ticks since boot.
	Start uint64 `json:"start"`
}

// Exit is a container's end.
type Exit struct {
	// Status is the exit status, 128+signal if a signal ended it.
	Status uint32 `json:"status"`
	// At is the time in nanoseconds since 1970.
	At int64 `json:"at"`
}

// ProcessStart returns when a process started, in clock ticks since boot: field 22 of /proc/PID/stat
// (proc(5)). A process that is gone gives ENOENT or ESRCH.
func ProcessStart(pid int) (uint64, error) {
	_, start, err := processStat(pid)
	return start, err
}

// ProcessEnded tells whether a process that started then has ended, though nobody may have waited for it yet.
func ProcessEnded(pid int, start uint64) bool {
	state, now, err := processStat(pid)
	return err != nil || now != start || state == 'Z' || state == 'X'
}

// processStat returns fields 3 and 22 of /proc/PID/stat.
func processStat(pid int) (state byte, start uint64, err error) {
	stat, err := readFile("/proc/"+strconv.Itoa(pid)+"/stat", 4096)
	if err != nil {
		return 0, 0, err
	}
	// Field 2, the name, may hold spaces and parentheses; no later field does.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const first, last = 3, 22
	if len(fields) <= last-first {
		return 0, 0, errors.New("not a stat line")
	}
	start, err = strconv.ParseUint(string(fields[last-first]), 10, 64)
	return fields[0][0], start, err
}

// readLeftovers reads a bundle's Leftovers; a bundle without the file has none.
func readLeftovers(bundle string) (*Leftovers, error) {
	const limit = 1 << 20
	path := inBundle(bundle, LeftoversFile)
	b, err := readFile(path, limit)
	if errors.Is(err, syscall.ENOENT) {
		return new(Leftovers), nil
	}
	var l *Leftovers
	if err == nil {
		l, err = parseLeftovers(b)
	}
	if err != nil {
		return new(Leftovers), fail("read left-overs", path, err, "")
	}
	return l, nil
}

func parseLeftovers(b []byte) (*Leftovers, error) {
	l := new(Leftovers)
	r := &jsonReader{b: b}
	texts := func(list *[]string) error {
		*list = nil
		return r.array(func() error {
			var s string
			err := r.textTo(&s)
			*list = append(*list, s)
			return err
		})
	}
	err := r.object(func(key string) error {
		switch key {
		case "pids":
			l.PIDs = nil
			return r.array(func() error {
				var pid, start int64
				err := r.integers(map[string]*int64{"pid": &pid, "start": &start})
				l.PIDs = append(l.PIDs, Process{PID: int(pid), Start: uint64(start)})
				return err
			})
		case "cgroups":
			return texts(&l.Cgroups)
		case "sockets":
			return texts(&l.Sockets)
		case "exit":
			if r.null() {
				return nil
			}
			var status, at int64
			err := r.integers(map[string]*int64{"status": &status, "at": &at})
			l.Exit = &Exit{Status: uint32(status), At: at}
			return err
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	return l, err
}

// integers consumes an object of whole numbers.
func (r *jsonReader) integers(fields map[string]*int64) error {
	return r.object(func(key string) error {
		field, ok := fields[key]
		if !ok || r.null() {
			if !ok {
				return r.skip()
			}
			return nil
		}
		v, err := r.integer()
		*field = v
		return err
	})
}
