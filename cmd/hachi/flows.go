package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/shim/node"
)

const (
	// flowsAgain is the time between two looks of --follow.
	flowsAgain = 500 * time.Millisecond
	// flowsKept is how many records a node keeps (see package bpf/flow). Above so many between two looks some are missed.
	flowsKept = 4096
)

type flowsFlags struct {
	bookFlags
	node.Filter
	follow, once, asJSON bool
}

func newFlowsCommand() *cobra.Command {
	var f flowsFlags
	c := &cobra.Command{
		Use:   "flows [flags]",
		Short: "Show which connections pods made and took, and the names they asked for",
		Long: `Show the newest flow records of this node, oldest first: one for each TCP connection that ended, one every few seconds for
each that goes on, and one for each DNS message. They are kept in the kernel, in a bounded buffer, also of pods that
are gone, with or without a node agent.

Bytes are payload. The verdict is ok, failed (never established), reset, refused (by policy) or redirected.`,
		Example: `  hachi flows --pod web
  hachi flows --follow --namespace default
  hachi flows --json | jq 'select(.verdict == "failed")'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	f.bookFlags.register(flags)
	flags.StringVar(&f.Pod, "pod", "", "only flows of the pod `NAME`; a container started with ctr is a pod of its own")
	flags.StringVar(&f.Namespace, "namespace", "", "only flows of pods in `NAMESPACE`, of Kubernetes or, without it, containerd")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with new flows until Ctrl-C")
	flags.BoolVar(&f.once, "once", false, "print what there is, and end (the default)")
	flags.BoolVar(&f.asJSON, "json", false, "as lines of JSON")
	return c
}

func (f *flowsFlags) run(c *cobra.Command) error {
	if f.follow && f.once {
		return usagef("--follow and --once: one of them")
	}
	n, err := f.open()
	if err != nil {
		return err
	}
	defer n.Close()
	ctx, stop := interruptible(c.Context())
	defer stop()
	p := flowPrinter{out: c.OutOrStdout(), filter: f.Filter, print: writeFlow}
	if f.asJSON {
		p.print = writeFlowJSON
	} else if err := writeFlowTitles(p.out); err != nil {
		return err
	}
	for {
		missed, err := p.show(n)
		if err == nil {
			err = tellLosses(c.ErrOrStderr(), n, missed, &p.lost)
		}
		if err != nil || !f.follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(flowsAgain):
		}
	}
}

// recorder has a node's flow records.
type recorder interface {
	Recent() ([]node.Flow, error)
	Lost() (uint64, error)
}

// flowPrinter prints the flows that it has not printed yet.
type flowPrinter struct {
	out    io.Writer
	filter node.Filter
	print  func(io.Writer, *node.Flow) error
	// seq is the last record's number; 0 before the first look.
	seq  uint64
	lost uint64
}

// show prints what is new, and returns how many records came and went since the last look.
func (p *flowPrinter) show(r recorder) (missed uint64, err error) {
	flows, err := r.Recent()
	if err != nil || len(flows) == 0 {
		return 0, err
	}
	newest := flows[len(flows)-1].Seq
	if p.seq > 0 && newest > p.seq+flowsKept {
		missed = newest - flowsKept - p.seq
	}
	for k := range flows {
		f := &flows[k]
		if f.Seq <= p.seq {
			continue
		}
		p.seq = f.Seq
		if p.filter.Match(f) {
			if err := p.print(p.out, f); err != nil {
				return missed, err
			}
		}
	}
	return missed, nil
}

// tellLosses says what will be seen nowhere, once.
func tellLosses(say io.Writer, r recorder, missed uint64, told *uint64) error {
	if missed > 0 {
		fmt.Fprintf(say, "hachi: %d flow records came and went between two looks\n", missed)
	}
	lost, err := r.Lost()
	if notLoaded(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if lost > *told {
		fmt.Fprintf(say, "hachi: %d flow records were lost since the node began to count\n", lost)
		*told = lost
	}
	return nil
}

func writeFlowJSON(out io.Writer, f *node.Flow) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(f)
}
