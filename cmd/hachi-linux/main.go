// Command hachi-linux runs the Linux containers of one pod: it is containerd's runc task service, and answers hachi-shim
// on descriptor 3 until that closes it. hachi-shim starts it with the pod's first Linux container; it is not for people.
//
//	hachi-linux -namespace NS -events SOCKET [-debug]
//	hachi-linux -namespace NS -id ID delete   cleans up after a container whose server died; the working directory is its bundle
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/containerd/log"

	"github.com/hachi-run/hachi/shim/logging"
	"github.com/hachi-run/hachi/shim/runc"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// serverFD is the connection to the pod's server.
const serverFD = 3

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("hachi-linux", flag.ContinueOnError)
	flags.SetOutput(stderr)
	namespace := flags.String("namespace", "", "containerd's namespace")
	id := flags.String("id", "", "the container to delete")
	events := flags.String("events", "", "containerd's ttrpc socket")
	debugging := flags.Bool("debug", false, "log every call")
	if err := flags.Parse(args); err != nil || *namespace == "" || flags.Arg(0) == "delete" && *id == "" {
		fmt.Fprintln(stderr, "usage: hachi-linux -namespace NS -events SOCKET [-debug] | -namespace NS -id ID delete (hachi-shim starts it)")
		return 64
	}
	var err error
	if flags.Arg(0) == "delete" {
		err = remove(ctx, *namespace, *id, stdout)
	} else {
		startLog(*debugging)
		err = serve(ctx, *namespace, *events)
	}
	if err != nil {
		fmt.Fprintln(stderr, "hachi-linux:", err)
		return 1
	}
	return 0
}

// startLog also sends the log of containerd's packages to where ours goes.
func startLog(debugging bool) {
	logging.Start(debugging)
	if debugging {
		_ = log.SetLevel("debug") // a level that exists
	}
	log.L.Logger.SetOutput(logging.Stderr)
}

func serve(ctx context.Context, namespace, events string) error {
	file := os.NewFile(serverFD, "server")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return fmt.Errorf("descriptor 3: %w (hachi-shim starts this program)", err)
	}
	return runc.Serve(ctx, conn, namespace, events)
}

func remove(ctx context.Context, namespace, id string, stdout io.Writer) error {
	reply, err := runc.Remove(ctx, namespace, id)
	if err != nil {
		return err
	}
	_, err = stdout.Write(reply)
	return err
}
