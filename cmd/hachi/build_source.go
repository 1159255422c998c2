package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/internal/toolchain/cwasm"
	"github.com/hachi-run/hachi/internal/toolchain/gowasm"
)

// sourceFlags are the flags of a module that is compiled first.
type sourceFlags struct {
	goPackage, tags, ldflags string
	c, cflags                []string
}

func (s *sourceFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&s.goPackage, "go", "", "compile the Go main `PACKAGE`, with a network (needs Go 1.24 to 1.26)")
	flags.StringVar(&s.tags, "tags", "", "with --go, go build's `TAGS`")
	flags.StringVar(&s.ldflags, "ldflags", "", "with --go, go build's linker `FLAGS`; -s drops the names of functions from traces")
	flags.StringArrayVar(&s.c, "c", nil, "compile a C `FILE`, with sockets (needs clang and wasi-libc); more files follow it")
	flags.StringArrayVar(&s.cflags, "cflags", nil, "with --c, clang's `FLAGS` separated by spaces; again for more")
}

func (s *sourceFlags) given() bool { return s.goPackage != "" || len(s.c) > 0 }

// args checks the words that are no flags.
func (s *sourceFlags) args(c *cobra.Command, args []string) error {
	switch {
	case s.goPackage != "" && len(s.c) > 0:
		return usagef("--go and --c: one of them")
	case s.goPackage == "" && (s.tags != "" || s.ldflags != ""):
		return usagef("--tags and --ldflags are for --go")
	case len(s.c) == 0 && len(s.cflags) > 0:
		return usagef("--cflags is for --c")
	case s.goPackage != "":
		if len(args) > 0 {
			return usagef("MODULE %q and --go: one of them", args[0])
		}
		return nil
	case len(s.c) > 0:
		return nil
	}
	return cobra.ExactArgs(1)(c, args)
}

// compile compiles the module into file.
func (s *sourceFlags) compile(c *cobra.Command, args []string, file string) error {
	ctx, stop := interruptible(c.Context())
	defer stop()
	say := c.ErrOrStderr() // stdout may be the image
	if s.goPackage != "" {
		return gowasm.Build(ctx, gowasm.Options{
			Package: s.goPackage, Output: file, Tags: s.tags, LDFlags: s.ldflags, Stdout: say, Stderr: say,
		})
	}
	o := cwasm.Options{Files: append(s.c[:len(s.c):len(s.c)], args...), Output: file, Stdout: say, Stderr: say}
	for _, f := range s.cflags {
		o.Flags = append(o.Flags, strings.Fields(f)...)
	}
	return cwasm.Build(ctx, o)
}

// name is the module's, as its compiler would name a program.
func (s *sourceFlags) name() string {
	if s.goPackage != "" {
		return gowasm.Name(s.goPackage)
	}
	base := filepath.Base(s.c[0])
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// buildSource compiles a module and packs it; without a name for an image, the module is all.
func (f *buildFlags) buildSource(c *cobra.Command, args []string) error {
	if f.Name == "" {
		if !strings.HasSuffix(f.output, ".wasm") {
			return usagef("no name (say -t NAME for an image, or -o FILE.wasm for the module alone)")
		}
		if err := f.source.compile(c, args, f.output); err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "wrote  %s (hachi run %s)\n", f.output, f.output)
		return nil
	}
	dir, err := os.MkdirTemp("", "hachi-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f.Module = filepath.Join(dir, f.source.name()+".wasm")
	if err := f.source.compile(c, args, f.Module); err != nil {
		return err
	}
	return f.build(c)
}
