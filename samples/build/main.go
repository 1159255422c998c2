// Command build compiles the samples into one folder. The Go ones need only the go command; the C ones are
// left out, with a word, on a machine without a C compiler for Wasm.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func main() { os.Exit(run()) }

func run() int {
	out := flag.String("o", "bin/samples", "folder to write into")
	flag.Parse()
	if err := build(*out); err != nil {
		fmt.Fprintf(os.Stderr, "build samples: %v\n", err)
		return 1
	}
	return 0
}

func build(out string) error {
	top, err := testenv.Source()
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	mains, err := filepath.Glob(filepath.Join(top, "samples", "*", "main.go"))
	if err != nil {
		return err
	}
	for _, src := range mains {
		dir := filepath.Dir(src)
		if name := filepath.Base(dir); name != "build" {
			if err := guest.Go(guest.WASI, dir, filepath.Join(out, name+".wasm")); err != nil {
				return err
			}
		}
	}
	sources, err := filepath.Glob(filepath.Join(top, "samples", "*", "*.c"))
	if err != nil {
		return err
	}
	if !guest.HaveC(guest.WASI) {
		fmt.Printf("left out, for want of a C compiler for Wasm (make deps): %d samples in C\n", len(sources))
		return nil
	}
	for _, src := range sources {
		name := strings.TrimSuffix(filepath.Base(src), ".c")
		if err := guest.C(guest.WASI, src, filepath.Join(out, name+".wasm")); err != nil {
			return err
		}
	}
	return nil
}
