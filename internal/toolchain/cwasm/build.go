// Package cwasm compiles C programs to Wasm with clang and wasi-libc, and gives them what wasi-libc leaves out: BSD
// sockets, and a working directory to start in.
package cwasm

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options say what to compile. Files and Output are required.
type Options struct {
	// Files are C files, and whatever else clang takes: objects, archives.
	Files []string
	// Output is the module's file.
	Output string
	// Flags are clang's, behind -O2. Names of functions are kept; -g adds lines to traces, -s drops it all.
	Flags []string
	// Stdout and Stderr get clang's output, unchanged; nil drops it.
	Stdout, Stderr io.Writer
}

// ErrNoCompiler is in errors about a machine that cannot compile C for Wasm.
var ErrNoCompiler = errors.New("no C compiler for Wasm")

// hint is what to do about ErrNoCompiler.
const hint = "on Debian: apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32; or set WASI_SDK_PATH"

// The folder is the include directory too: its headers come before wasi-libc's.
//
//go:embed _libc _libc/__struct_sockaddr_un.h
var libc embed.FS

const libcDir = "_libc"

// Build compiles and links the program. What clang says goes to o.Stderr, and the error then only says that it failed.
func Build(ctx context.Context, o Options) error {
	if err := build(ctx, o); err != nil {
		return fmt.Errorf("build %s: %w", strings.Join(o.Files, " "), err)
	}
	return nil
}

func build(ctx context.Context, o Options) error {
	if len(o.Files) == 0 {
		return errors.New("no C file")
	}
	clang, err := find()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "hachi-c-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(tmp); err != nil {
		return err
	}
	// Ours are compiled apart, so that the program's flags are not for them. They are linked as objects, and the linker
	// drops what nobody calls; main's caller calls cwd.c.
	objects, err := compileLibc(ctx, clang, tmp)
	if err != nil {
		return err
	}
	args := append([]string{"--target=wasm32-wasi", "-O2", "-isystem", tmp}, o.Flags...)
	args = append(args, o.Files...)
	args = append(append(args, objects...), "-o", o.Output)
	return run(ctx, clang, o.Stdout, o.Stderr, args...)
}

// compileLibc compiles our part of libc, and so finds out whether this clang has what it needs.
func compileLibc(ctx context.Context, clang, dir string) (objects []string, err error) {
	sources, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		return nil, err
	}
	for _, src := range sources {
		object := strings.TrimSuffix(src, ".c") + ".o"
		var said strings.Builder
		// The path of the temporary directory would be different in each build.
		err := run(ctx, clang, nil, &said, "--target=wasm32-wasi", "-O2", "-isystem", dir, "-ffile-prefix-map="+dir+"=hachi", "-c", src, "-o", object)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
			return nil, fmt.Errorf("%w: %s: %s (%s)", ErrNoCompiler, clang, line, hint)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// find finds clang: of the WASI SDK, if one is named, or the machine's.
func find() (string, error) {
	name := "clang"
	if sdk := os.Getenv("WASI_SDK_PATH"); sdk != "" {
		name = filepath.Join(sdk, "bin", "clang")
	}
	clang, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w (%s)", ErrNoCompiler, err, hint)
	}
	return clang, nil
}

func unpack(dir string) error {
	return fs.WalkDir(libc, libcDir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(name, libcDir))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := libc.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	})
}

func run(ctx context.Context, clang string, stdout, stderr io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, clang, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("clang: %w", err)
	}
	return nil
}
