// Command plain is an ordinary network program: nothing in it is for hachi, or for Wasm. Its first argument says
// what to do; it exits with 1 and a reason if something is not as on Linux.
package main

import (
	"fmt"
	"os"
)

var commands = map[string]func(args []string) error{
	"tcp":      alone(deadlines, closes, halfClose, bulk, options, refused),
	"udp":      alone(udpUnconnected, udpConnected, udpMessages, udpRefused),
	"families": alone(inet6, dualStack, inet4Only),
	"unix":     alone(unixStream, unixDatagram),
	"timeout":  dialTimeout,
	"lookup":   lookup,
	"serve":    serve,
	"file":     serveFile,
	"again":    listenAgain,
	"get":      get,
	"tls":      serveTLS,
	"echo":     alone(echoServer),
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "plain: say what to do")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "plain %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Println("ok", os.Args[1])
}

func alone(steps ...func() error) func([]string) error {
	return func([]string) error {
		for i, step := range steps {
			if err := step(); err != nil {
				return fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		return nil
	}
}
