// Command hachi-engine runs one Wasm guest in a jail. The shim starts it; it is not for people.
//
//	hachi-engine run       reads its configuration from the control socket, descriptor 3 (see runtime/wire)
//	                      (with --profile it writes the guest's CPU profile to descriptor 4)
//	hachi-engine compile   compiles the module on descriptor 3 into the artefact on descriptor 4
//	hachi-engine hold      is the first process of a pod's shared pid namespace until descriptor 3 ends
//
// run exits with the guest's code; compile exits with 0, or 1 and the reason on stderr.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

func main() { os.Exit(run(context.Background(), os.Args[1:])) }

func run(ctx context.Context, args []string) int {
	// A guest whose reader went away gets EPIPE, as WASI has no signals.
	signal.Ignore(syscall.SIGPIPE)
	if len(args) == 2 && args[0] == "run" && args[1] == "--profile" {
		return serve(ctx, os.NewFile(wire.ControlFD+1, "profile"))
	}
	if len(args) == 1 {
		switch args[0] {
		case "run":
			return serve(ctx, nil)
		case "compile":
			return compile(ctx)
		case "hold":
			return hold()
		}
	}
	fmt.Fprintln(os.Stderr, "usage: hachi-engine run|compile|hold (the shim starts it; for yourself use hachi run)")
	return 64
}

// hold keeps a pid namespace. Orphans in it become this process's children, and go without being waited for.
func hold() int {
	signal.Ignore(syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := jail.Compiler(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = os.NewFile(3, "life").Read(make([]byte, 1)) // nothing is ever written
	return 0
}

func compile(ctx context.Context) int {
	module, out := os.NewFile(3, "module"), os.NewFile(4, "artifact")
	err := jail.Compiler()
	if err == nil {
		err = artifact.Compile(ctx, module, out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
