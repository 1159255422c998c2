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
	"os/signal"
	"runtime"
	"syscall"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/linux"
	"github.com/hachi-run/hachi/shim/server"
)

func main() {
	// Some dependency links the heap profiler in, whose buckets nobody reads here: 0.5 MB of every idle pod.
	runtime.MemProfileRate = 0
	// A server waits. More processors would only spin while one of its threads starts a process, in every pod of a node.
	runtime.GOMAXPROCS(1)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// listenerFD is the pod's socket, from the launcher.
const listenerFD = 3

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
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
	ctx = namespaces.WithNamespace(ctx, *namespace)
	switch action {
	case "delete":
		// Before runc removes the cgroup. The container goes whatever comes of it.
		if err := collect(ctx, *namespace, *id); err != nil {
			fmt.Fprintln(stderr, "hachi-shim:", err)
		}
		err = remove(ctx, *id, stdout)
	case server.CollectCommand:
		err = collect(ctx, *namespace, *id)
	default:
		setLog(*debugging)
		err = serve(ctx, server.Options{ID: *id, Namespace: *namespace, Address: *address, TTRPCAddress: ttrpcAddress(*address)})
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

// remove cleans up after a Linux container and tells containerd how it ended.
func remove(ctx context.Context, id string, stdout io.Writer) error {
	children := make(chan os.Signal, 32)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			_ = reaper.Reap() // runc's own children; their waiters tell errors
		}
	}()
	status, err := linux.Remove(ctx, id)
	if err != nil {
		return fmt.Errorf("delete container %s: %w", id, err)
	}
	reply, err := proto.Marshal(&task.DeleteResponse{
		Pid: uint32(status.Pid), ExitStatus: uint32(status.ExitStatus), ExitedAt: timestamppb.New(status.ExitedAt),
	})
	if err != nil {
		return err
	}
	_, err = stdout.Write(reply)
	return err
}

// setLog sends the log to containerd, which reads the bundle's fifo "log". A log that nobody reads is dropped:
// it must never hold up a pod.
func setLog(debugging bool) {
	level := slog.LevelInfo
	if debugging {
		level = slog.LevelDebug
		_ = log.SetLevel("debug") // runc's service logs through containerd's logger
	}
	fd, err := syscall.Open("log", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		slog.SetDefault(slog.New(slog.DiscardHandler))
		log.L.Logger.SetOutput(io.Discard)
		return
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(fifo(fd), &slog.HandlerOptions{Level: level})))
	log.L.Logger.SetOutput(fifo(fd))
}

// fifo is a non-blocking descriptor.
type fifo int

func (f fifo) Write(p []byte) (int, error) {
	_, _ = syscall.Write(int(f), p) // a full fifo drops the line
	return len(p), nil
}
