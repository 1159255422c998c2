package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/runtime/wire"
)

// The values of `hachi run`'s flags, which are written as Docker's.

// habits are flags that hands which know Docker type without thinking. Those without an answer mean what is always so
// here and are ignored; the others cannot be had, and the answer says what to do instead.
var habits = []struct {
	name, short string
	value       bool
	answer      string
}{
	{name: "rm"},
	{name: "interactive", short: "i"},
	{name: "tty", short: "t"},
	{name: "init"},
	{name: "read-only"},
	{name: "name", value: true},
	{name: "pull", value: true},
	{name: "detach", short: "d", answer: "hachi run stays in the foreground (end the line with &, or start an image with ctr run -d)"},
	{name: "publish-all", short: "P", answer: "a module names no ports (give each with -p PORT)"},
	{name: "user", short: "u", value: true, answer: "the guest runs as you (sudo -u USER hachi run ...)"},
	{name: "entrypoint", value: true, answer: "the module is the program (name another module; the guest's arguments follow it)"},
	{name: "hostname", value: true, answer: "a guest has no host name of its own (-e HOSTNAME=NAME)"},
	{name: "network", value: true, answer: "the guest uses this machine's network (for another, start an image with ctr run)"},
	{name: "privileged", answer: "no guest has privileges"},
}

// registerHabits adds the flags of habits, hidden.
func registerHabits(c *cobra.Command) {
	for _, h := range habits {
		if h.value {
			c.Flags().StringP(h.name, h.short, "", "")
		} else {
			c.Flags().BoolP(h.name, h.short, false, "")
		}
		_ = c.Flags().MarkHidden(h.name)
	}
}

// checkHabits complains of those that cannot be had.
func checkHabits(c *cobra.Command) error {
	for _, h := range habits {
		f := c.Flags().Lookup(h.name)
		switch {
		case h.answer == "" || !f.Changed || f.Value.String() == "false":
		case h.name == "network" && f.Value.String() == "host":
		default:
			return usagef("--%s: %s", h.name, h.answer)
		}
	}
	return nil
}

// span is a time.Duration whose number alone means seconds, as timeout(1) has it.
type span time.Duration

func (s *span) String() string { return time.Duration(*s).String() }
func (*span) Type() string     { return "duration" }

func (s *span) Set(v string) error {
	d, err := time.ParseDuration(v)
	if n, bad := strconv.ParseFloat(v, 64); bad == nil {
		d, err = time.ParseDuration(strconv.FormatFloat(n, 'f', -1, 64) + "s")
	}
	if err != nil {
		return errors.New("not a time (write 5s, 2m, or a number of seconds)")
	}
	*s = span(d)
	return nil
}

// environ makes the guest's environment of the files of --env-file and of -e flags; the latter win.
func environ(files, flags []string) ([]string, error) {
	var env []string
	set := func(e string) {
		name, _, given := strings.Cut(e, "=")
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				return // as Docker does
			}
			e = name + "=" + value
		}
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, e)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimLeft(lines.Text(), " \t")
			if line == "" || line[0] == '#' {
				continue
			}
			if name, _, _ := strings.Cut(line, "="); name == "" || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("--env-file %s:%d: %q: not NAME=VALUE or NAME", file, n, line)
			}
			set(line)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", file, err)
		}
	}
	for _, e := range flags {
		if e == "" || e[0] == '=' {
			return nil, fmt.Errorf("-e %q: no name (write NAME=VALUE)", e)
		}
		set(e)
	}
	return env, nil
}

// volumeOptions are what may follow HOST:GUEST; all but ro ask for what is so anyway, or for what only containers have.
var volumeOptions = []string{"ro", "rw", "z", "Z", "cached", "delegated", "consistent"}

// preopens makes the guest's directories and files of -v flags and of --mount, which says the same in more words.
func preopens(volumes, mounts []string) ([]wire.Preopen, error) {
	var out []wire.Preopen
	for _, v := range volumes {
		parts := strings.Split(v, ":")
		var options []string
		if len(parts) == 3 {
			options = strings.Split(parts[2], ",")
		}
		if len(parts) < 2 || len(parts) > 3 || slices.ContainsFunc(options, func(o string) bool { return !slices.Contains(volumeOptions, o) }) {
			return nil, fmt.Errorf("-v %q: not HOST:GUEST[:ro]", v)
		}
		p, err := preopen(parts[0], parts[1], slices.Contains(options, "ro"))
		if err != nil {
			return nil, fmt.Errorf("-v %q: %w", v, err)
		}
		out = append(out, p)
	}
	for _, m := range mounts {
		p, err := mount(m)
		if err != nil {
			return nil, fmt.Errorf("--mount %q: %w", m, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// mount reads type=bind,source=HOST,target=GUEST[,readonly].
func mount(flag string) (wire.Preopen, error) {
	var host, guest string
	readOnly := false
	for field := range strings.SplitSeq(flag, ",") {
		key, value, given := strings.Cut(field, "=")
		switch key {
		case "type":
			if value != "bind" {
				return wire.Preopen{}, fmt.Errorf("type %s is not supported (type=bind,source=HOST,target=GUEST)", value)
			}
		case "source", "src":
			host = value
		case "target", "destination", "dst":
			guest = value
		case "readonly", "ro":
			readOnly = !given || value == "true" || value == "1"
		default:
			return wire.Preopen{}, fmt.Errorf("unknown field %q (type=bind,source=HOST,target=GUEST[,readonly])", key)
		}
	}
	return preopen(host, guest, readOnly)
}

// preopen gives the guest a directory or a file under any name: a relative one is what the guest's relative paths begin
// with.
func preopen(host, guest string, readOnly bool) (wire.Preopen, error) {
	if host == "" || guest == "" {
		return wire.Preopen{}, errors.New("names nothing of the host or of the guest")
	}
	path, err := filepath.Abs(host)
	if err != nil {
		return wire.Preopen{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return wire.Preopen{}, fmt.Errorf("%w (create it first)", err)
	}
	if !info.IsDir() {
		// The guest gets this very file, and no link is followed for it later.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return wire.Preopen{}, err
		}
	}
	return wire.Preopen{Guest: filepath.Clean(guest), Path: path, ReadOnly: readOnly}, nil
}

// memoryLimit reads --memory as Docker and Kubernetes write it: 64m, 64Mi, 64MB are all 64·2²⁰ bytes.
func memoryLimit(flag string) (uint64, error) {
	if flag == "" {
		return 0, nil
	}
	if strings.HasSuffix(flag, "i") {
		flag += "B" // Kubernetes' 64Mi is Docker's 64MiB
	}
	n, err := units.RAMInBytes(flag)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("--memory %q: not a size (write 64Mi or 1g)", flag)
	}
	return uint64(n), nil
}

// publish reads one -p flag, which is Docker's: [[IP:]PORT:]GUESTPORT. A lone port is the same on both sides. The
// guest's number is in the socket's name only.
func publish(flag string) (wire.Listener, error) {
	spec := strings.TrimSuffix(flag, "/tcp")
	host, guest := spec, spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		host, guest = spec[:i], spec[i+1:]
	}
	ip, port, err := net.SplitHostPort(host)
	if err != nil {
		ip, port = "", host
	}
	for _, p := range []string{port, guest} {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 && p != port {
			return wire.Listener{}, fmt.Errorf("-p %q: not [[IP:]PORT:]GUESTPORT, or not TCP", flag)
		}
	}
	return wire.Listener{Address: net.JoinHostPort(ip, port), Name: "tcp-" + guest}, nil
}
