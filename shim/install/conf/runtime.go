package conf

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Runtime is the runtime that containerd shall know.
type Runtime struct {
	// Handler is its name in a RuntimeClass.
	Handler string
	// Path is the absolute path of containerd-shim-hachi-v1 on the host.
	Path string
	// Sandboxer is "shim" for pods without a pause image; empty or "podsandbox" is containerd's default.
	Sandboxer string
	// SystemdCgroup and RuncBinary are for the Linux containers of a pod: what the node's runc runtime has.
	SystemdCgroup bool
	RuncBinary    string
}

// Type is the runtime type of hachi.
const Type = "io.containerd.hachi.v1"

// The plugins that hold the runtimes, in files of version 2 and of version 3 and later.
const (
	plugin2 = "io.containerd.grpc.v1.cri"
	plugin3 = "io.containerd.cri.v1.runtime"
)

// Add returns the changes that make containerd of the given major version know the runtime; none if it already would.
// A containerd 2 gets a file of its own, conf.d/hachi.toml beside the main file, and the main file an import of it where
// nothing imports it yet. A containerd 1 takes the CRI section of the last file that has one and forgets all others, so
// there the runtime is added to that file.
func (t *Tree) Add(r Runtime, major int) ([]Change, error) {
	if err := r.check(major); err != nil {
		return nil, err
	}
	for _, f := range t.files {
		if f.defines(r.Handler) {
			return nil, fmt.Errorf("add runtime %s: %s defines it, and not by hachi node install (remove it there, or choose another name with --handler)", r.Handler, f.name)
		}
	}
	if major < 2 {
		return t.addBlock(r)
	}
	return t.addDropIn(r)
}

// Remove returns the changes that take away what Add added, in any file that containerd loads.
func (t *Tree) Remove() []Change {
	var out []Change
	// The main file first: it must not import what is gone.
	for _, f := range t.files {
		switch {
		case !f.exists || string(f.base) == string(f.text):
		case strings.TrimSpace(string(f.base)) == "":
			out = append(out, Change{Name: f.name})
		default:
			out = append(out, Change{f.name, f.base})
		}
	}
	return out
}

func (r Runtime) check(major int) error {
	for i, c := range r.Handler {
		lower := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !lower && (c != '-' || i == 0 || i == len(r.Handler)-1) {
			return fmt.Errorf("add runtime %q: not a name that a RuntimeClass can use as handler (want lower case letters, digits and dashes)", r.Handler)
		}
	}
	switch {
	case r.Handler == "":
		return fmt.Errorf("add runtime: no name")
	case r.Handler == "runc":
		return fmt.Errorf("add runtime %s: that name is taken", r.Handler)
	case !path.IsAbs(r.Path):
		return fmt.Errorf("add runtime %s: path %q is not absolute", r.Handler, r.Path)
	case !slices.Contains([]string{"", "podsandbox", "shim"}, r.Sandboxer):
		return fmt.Errorf("add runtime %s: sandboxer %q: unknown (want podsandbox or shim)", r.Handler, r.Sandboxer)
	case r.Sandboxer == "shim" && major < 2:
		return fmt.Errorf("add runtime %s: sandboxer shim needs containerd 2 (this is %d)", r.Handler, major)
	}
	return nil
}

// table is the runtime in TOML below a plugin's name.
func (r Runtime) table(plugin string) string {
	head := "plugins." + strconv.Quote(plugin) + ".containerd.runtimes." + r.Handler
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", head)
	fmt.Fprintf(&b, "  runtime_type = %q\n  runtime_path = %q\n", Type, r.Path)
	b.WriteString("  pod_annotations = [\"hachi.run/*\"]\n  container_annotations = [\"hachi.run/*\"]\n")
	if r.Sandboxer == "shim" {
		b.WriteString("  sandboxer = \"shim\"\n  disable_pause_image_pull = true\n")
	}
	if r.SystemdCgroup || r.RuncBinary != "" {
		fmt.Fprintf(&b, "  [%s.options]\n", head)
		if r.SystemdCgroup {
			b.WriteString("    SystemdCgroup = true\n")
		}
		if r.RuncBinary != "" {
			fmt.Fprintf(&b, "    BinaryName = %q\n", r.RuncBinary)
		}
	}
	return b.String()
}

// defines tells whether the operator's part of the file has a runtime of this name.
func (f *file) defines(handler string) bool {
	var base file
	// It was parsed with our part in it; without that it cannot be worse.
	if err := toml.Unmarshal(f.base, &base.content); err != nil {
		return false
	}
	for _, plugin := range []string{plugin2, plugin3} {
		if _, ok := base.at(plugin, "containerd", "runtimes", handler); ok {
			return true
		}
	}
	return false
}

// at walks down the plugins' tables.
func (f *file) at(keys ...string) (any, bool) {
	var value any = f.content.Plugins
	for _, k := range keys {
		table, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = table[k]; !ok {
			return nil, false
		}
	}
	return value, true
}
