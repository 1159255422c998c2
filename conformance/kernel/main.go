// Command kernel runs a Go test binary in a virtual machine with the oldest kernel that hachi supports, as
// go test's -exec program:
//
//	kernel fetch DIR            Debian's cloud kernel 6.1 and the modules that tests need, by apt
//	kernel exec TEST [ARG...]   run TEST in it; the kernel and init lie beside this program
//
// Standard output and the exit code are the test's own. The machine is qemu without KVM, so nothing but qemu is needed,
// and time in it means nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
		code, err := execute(ctx, args[1], args[2:])
		if err != nil {
			fmt.Fprintf(os.Stderr, "kernel: run %s: %v\n", filepath.Base(args[1]), err)
			return 1
		}
		return code
	}
	fmt.Fprintln(os.Stderr, "usage: kernel fetch DIR | kernel exec TEST [ARG...]")
	return 64
}

func execute(ctx context.Context, test string, args []string) (code int, err error) {
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
		limit:  limit(args),
	}
	if err := writeImage(m.image, filepath.Dir(self), test, args); err != nil {
		return 0, err
	}
	return m.run(ctx)
}
