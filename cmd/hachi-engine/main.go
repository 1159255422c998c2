// Command hachi-engine runs one Wasm guest in a jail. The shim starts it; it is not for people.
//
//	hachi-engine run       reads its configuration from the control socket, descriptor 3 (see runtime/wire)
//	hachi-engine compile   compiles the module on descriptor 3 into the artefact on descriptor 4
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
)

func main() { os.Exit(run(context.Background(), os.Args[1:])) }

func run(ctx context.Context, args []string) int {
	// A guest whose reader went away gets EPIPE, as WASI has no signals.
	signal.Ignore(syscall.SIGPIPE)
	if len(args) == 1 {
		switch args[0] {
		case "run":
			return serve(ctx)
		case "compile":
			return compile(ctx)
		}
	}
	fmt.Fprintln(os.Stderr, "usage: hachi-engine run|compile (the shim starts it; for yourself use hachi run)")
	return 64
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
