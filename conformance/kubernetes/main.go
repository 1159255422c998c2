// Command cluster brings up a real Kubernetes cluster on this one machine, from programs built from source, and takes
// it down again. See docs/kubernetes.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hachi-run/hachi/conformance/kubernetes/cluster"
)

const usage = `usage: cluster up [-nodes N] [-hachi=false]    start it in the background, or say that it runs
       cluster down                            remove every trace of it
`

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run returns 0 when all went well, 1 when it did not, 64 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	word, flags := "", flag.NewFlagSet("cluster", flag.ContinueOnError)
	if len(args) > 0 {
		word, args = args[0], args[1:]
	}
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	var o cluster.Options
	var number int
	flags.IntVar(&o.Nodes, "nodes", 1, "how many nodes, 1 to 9")
	flags.BoolVar(&o.Hachi, "hachi", true, "nodes come with hachi configured")
	flags.IntVar(&number, "node", 0, "for `cluster node` only")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || flags.NArg() != 0 {
		flags.Usage()
		return 64
	}
	var err error
	switch word {
	case "up":
		err = cluster.Up(ctx, o, stdout)
	case "down":
		err = cluster.Down(stdout)
	case "run": // what up leaves in the background
		err = cluster.Run(ctx, o)
	case "node": // a node's first process
		err = cluster.Node(number, o)
	default:
		flags.Usage()
		return 64
	}
	if err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
		return 1
	}
	return 0
}
