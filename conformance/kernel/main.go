// Command kernel runs a Go test binary in a virtual machine with the oldest kernel that hachi supports, as
// go test's -exec program:
//
//	kernel fetch DIR                 Debian's cloud kernel 6.1 and the modules that tests need, by apt
//	kernel exec [FLAGS] TEST [ARGS]  run TEST in it; the kernel and init lie beside this program
//
// What TEST starts there has to come along: -with names files and folders of the source tree, relative to its top, and -host
// programs of this host, both with commas between. Standard output and the exit code are the test's own. The machine is qemu without KVM, so nothing but qemu is
// needed, and time in it means nothing. Its controllers are on cgroup2, all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	switch {
	case len(args) == 2 && args[0] == "fetch":
		if err := fetch(ctx, args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "kernel: fetch: %v\n", err)
			return 1
		}
		return 0
	case len(args) >= 2 && args[0] == "exec":
		flags := flag.NewFlagSet("exec", flag.ContinueOnError)
		with := flags.String("with", "", "files and folders of the source tree")
		host := flags.String("host", "", "programs of this host")
		if flags.Parse(args[1:]) != nil || flags.NArg() == 0 {
			break
		}
		comma := func(r rune) bool { return r == ',' }
		p := payload{test: flags.Arg(0), args: flags.Args()[1:],
			with: strings.FieldsFunc(*with, comma), host: strings.FieldsFunc(*host, comma)}
		code, err := execute(ctx, p)
		if err != nil {
			fmt.Fprintf(os.Stderr, "kernel: run %s: %v\n", filepath.Base(p.test), err)
			return 1
		}
		return code
	}
	fmt.Fprintln(os.Stderr, "usage: kernel fetch DIR | kernel exec [-with PATHS] [-host NAMES] TEST [ARG...]")
	return 64
}

func execute(ctx context.Context, p payload) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "hachi-kernel-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := machine{
		kernel: filepath.Join(filepath.Dir(self), "vmlinuz"),
		image:  filepath.Join(dir, "initramfs"),
		stdout: os.Stdout,
		limit:  limit(p.args),
	}
	p.parts = filepath.Dir(self)
	if err := writeImage(m.image, p); err != nil {
		return 0, err
	}
	return m.run(ctx)
}
