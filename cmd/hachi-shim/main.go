// Command hachi-shim serves one pod to containerd. The launcher containerd-shim-hachi-v1 starts it, inside the
// pod's namespaces and with the pod's listening socket as descriptor 3; it is not for people.
//
//	hachi-shim -namespace NS -id ID -address SOCKET [-debug]
//	hachi-shim ... delete   cleans up after a Linux container whose server died; the working directory is its bundle
//	hachi-shim [...] collect   closes the accounts of killed servers, and of the container with that id
//	hachi-shim load   loads the node's BPF programs
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/hachi-run/hachi/shim/logging"
	"github.com/hachi-run/hachi/shim/server"
)

func main() {
	// Some dependency links the heap profiler in, whose buckets nobody reads here: 0.5 MB of every idle pod.
	runtime.MemProfileRate = 0
	// One is enough for what mostly waits. The launcher has said so in the environment, and then this costs nothing.
	runtime.GOMAXPROCS(1)
	os.Exit(run(context.Background(), os.Args[1:], os.Stderr))
}

// listenerFD is the pod's socket, from the launcher.
const listenerFD = 3

func run(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) == 1 && args[0] == server.LoadCommand {
		return load(ctx, stderr)
	}
	flags := flag.NewFlagSet("hachi-shim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	namespace := flags.String("namespace", "", "containerd's namespace")
	id := flags.String("id", "", "the pod's id")
	address := flags.String("address", "", "containerd's gRPC socket")
	debugging := flags.Bool("debug", false, "log every call")
	// containerd gives these to delete; they say nothing that the working directory does not.
	flags.String("bundle", "", "ignored")
	flags.String("socket", "", "ignored")
	flags.String("publish-binary", "", "ignored")
	err := flags.Parse(args)
	action := flags.Arg(0)
	if err != nil || action != server.CollectCommand && (*namespace == "" || *id == "") {
		fmt.Fprintln(stderr, "usage: hachi-shim -namespace NS -id ID -address SOCKET [-debug] [delete] (containerd starts it)")
		return 64
	}
	switch action {
	case "delete":
		// Before runc removes the cgroup. The container goes whatever comes of it.
		if err := collect(ctx, *namespace, *id); err != nil {
			fmt.Fprintln(stderr, "hachi-shim:", err)
		}
		err = remove([]string{"-namespace", *namespace, "-id", *id, "delete"})
	case server.CollectCommand:
		err = collect(ctx, *namespace, *id)
	default:
		if openLog() {
			logging.Start(*debugging)
		} else {
			logging.Discard()
		}
		err = serve(ctx, server.Options{ID: *id, Namespace: *namespace, Address: *address, TTRPCAddress: ttrpcAddress(*address), Debug: *debugging})
	}
	if err != nil {
		fmt.Fprintln(stderr, "hachi-shim:", err)
		slog.Error("server ended", "id", *id, "error", err)
		return 1
	}
	return 0
}

// ttrpcAddress is containerd's socket for events.
func ttrpcAddress(address string) string {
	if a := os.Getenv("TTRPC_ADDRESS"); a != "" {
		return a
	}
	return address + ".ttrpc"
}

func serve(ctx context.Context, o server.Options) error {
	file := os.NewFile(listenerFD, "socket")
	l, err := net.FileListener(file)
	file.Close()
	if err != nil {
		return fmt.Errorf("descriptor 3: %w (containerd-shim-hachi-v1 starts the server)", err)
	}
	o.Listener = l
	return server.Run(ctx, o)
}

// remove has the process of Linux containers clean up after one, in this process's place. It returns only an error.
func remove(args []string) error {
	bin, err := server.Sibling("hachi-linux")
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", bin, syscall.Exec(bin, append([]string{bin}, args...), os.Environ()))
}

// openLog makes the bundle's fifo "log", which containerd reads, the stderr of this process and of its children. It is
// false when there is none.
func openLog() bool {
	fd, err := syscall.Open("log", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	return syscall.Dup3(fd, syscall.Stderr, 0) == nil
}
