// Command containerd-shim-hachi-v1 is what containerd executes for the runtime io.containerd.hachi.v1:
// a launcher that starts the pod's server, hachi-shim, and cleans up after containers.
package main

import (
	"os"

	"github.com/hachi-run/hachi/shim/launch"
)

func main() { os.Exit(launch.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
