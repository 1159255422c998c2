package install

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/hachi-run/hachi/shim/install/conf"
)

// Status is what a node has.
type Status struct {
	// Build is the build that new pods use; empty when there is none.
	Build string
	// Containerd is its version.
	Containerd string
	// Config is containerd's main file; Pending tells that the files differ from what Install would write.
	Config  string
	Pending bool
	// Serves tells that the containerd that runs knows the runtime.
	Serves bool
	// Pods are those that hachi runs, as namespace/name.
	Pods []string
	// Handler is the runtime's name.
	Handler string
}

// Ready tells whether a pod of the RuntimeClass would start.
func (s *Status) Ready() bool { return s.Build != "" && s.Serves && !s.Pending }

// Write shows it to people.
func (s *Status) Write(w io.Writer) error {
	yes := func(b bool, yes, no string) string {
		if b {
			return yes
		}
		return no
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "programs\t%s\n", yes(s.Build != "", s.Build, "none"))
	fmt.Fprintf(t, "containerd\t%s\n", s.Containerd)
	fmt.Fprintf(t, "configuration\t%s\t%s\n", s.Config, yes(s.Pending, "differs from what hachi node install writes", "as hachi node install writes it"))
	fmt.Fprintf(t, "runtime %s\t%s\n", s.Handler, yes(s.Serves, "served", "not known to the containerd that runs"))
	fmt.Fprintf(t, "pods\t%d\t%s\n", len(s.Pods), strings.Join(s.Pods, " "))
	fmt.Fprintf(t, "ready\t%s\n", yes(s.Ready(), "yes", "no"))
	return t.Flush()
}

// Status looks and changes nothing.
func (i *Installer) Status(ctx context.Context) (*Status, error) {
	d, err := i.ask(ctx)
	if err != nil {
		return nil, err
	}
	i.useConfigOf(d)
	s := &Status{Containerd: d.version, Config: i.o.Config, Handler: i.o.Handler}
	if s.Build, err = i.programs.current(); err != nil {
		return nil, err
	}
	tree, err := conf.Read(i.host, i.o.Config)
	if err != nil {
		return nil, err
	}
	changes, err := tree.Add(i.runtime(d), d.major)
	if err != nil {
		return nil, err
	}
	s.Pending = len(changes) > 0
	s.Serves = d.knows(i.runtime(d))
	s.Pods, err = i.pods(ctx)
	return s, err
}
