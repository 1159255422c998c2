// Package gowasm compiles ordinary Go programs to Wasm so that package net works in them.
//
// Go's own wasip1 has a network inside the process only. The compiled program gets a package net that talks to
// the host instead, through the socket functions that hachi and WasmEdge have; see overlay.go for how. The program's
// source and the installed Go stay as they are.
//
// TCP, UDP and Unix stream and datagram sockets work as on Linux, with deadlines, closing and errors. A port that hachi opened
// before the program started (LISTEN_FDNAMES has tcp-PORT) is the program's when it listens there. Names are looked up by
// Go's resolver where there is an /etc/resolv.conf, else by the host. There are no raw and no sequenced-packet sockets, no multicast
// groups, no list of interfaces, no ancillary data, and no File method of a connection, as WASI cannot duplicate descriptors.
package gowasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Options say what to compile. Package and Output are required.
type Options struct {
	// Package is one main package, as the go command takes it: ./cmd/app, an import path, or main.go.
	Package string
	// Dir is where the go command runs; empty is the current directory. A Package that is a directory in
	// another module than Dir is compiled from there.
	Dir string
	// Output is the module's file.
	Output string
	// Tags and LDFlags are go build's. -trimpath is always given. Nothing is stripped unless LDFlags has -s: the
	// names of functions, 2 % of the module, are what traces and profiles show. Go has no DWARF for Wasm, so -w
	// changes nothing.
	Tags, LDFlags string
	// Env is the go command's environment; nil is this process's. GOOS and GOARCH are set in it.
	Env []string
	// Stdout and Stderr get the go command's output, unchanged; nil drops it.
	Stdout, Stderr io.Writer
}

// ErrUnsupported is in errors about an installed Go that this package does not know how to change.
var ErrUnsupported = errors.New("this Go version is not supported")

// ErrNoGo is in errors about a missing go command.
var ErrNoGo = errors.New("no go command")

// Build compiles the program. What the compiler says goes to o.Stderr, and the error then only says that it failed.
func Build(ctx context.Context, o Options) error {
	if err := build(ctx, o); err != nil {
		return fmt.Errorf("build %s: %w", o.Package, err)
	}
	return nil
}

func build(ctx context.Context, o Options) error {
	out, err := filepath.Abs(o.Output)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "hachi-go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	g, err := find(ctx, &o, tmp)
	if err != nil {
		return err
	}
	overlay, err := g.overlay(ctx, tmp)
	if err != nil {
		return err
	}
	args := []string{"build", "-overlay", overlay, "-trimpath", "-o", out}
	if o.Tags != "" {
		args = append(args, "-tags", o.Tags)
	}
	if o.LDFlags != "" {
		args = append(args, "-ldflags", o.LDFlags)
	}
	// The -- keeps a package from being a flag.
	err = g.run(ctx, o.Stdout, o.Stderr, append(args, "--", o.Package)...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Whose fault is it? The standard library alone is what hachi changed.
	var said strings.Builder
	if g.run(ctx, nil, &said, append([]string{"build", "-overlay", overlay, "-trimpath", "--"}, changedPackages()...)...) != nil {
		return fmt.Errorf("%s: %w: %s", g.version, ErrUnsupported, firstComplaint(said.String()))
	}
	return err
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// Name is what the go command would call the program of a package, without a suffix.
func Name(pkg string) string {
	p := filepath.ToSlash(pkg)
	if i := strings.LastIndexByte(p, '@'); i > 0 {
		p = p[:i]
	}
	if strings.HasSuffix(p, ".go") {
		return strings.TrimSuffix(path.Base(p), ".go")
	}
	if p == "." || p == ".." || strings.HasPrefix(p, "./") || strings.HasPrefix(p, "../") {
		if abs, err := filepath.Abs(pkg); err == nil {
			p = filepath.ToSlash(abs)
		}
	}
	base := path.Base(p)
	if majorVersion.MatchString(base) {
		if dir := path.Base(path.Dir(p)); dir != "/" && dir != "." {
			base = dir
		}
	}
	if base == "/" || base == "." {
		return "app"
	}
	return base
}

// firstComplaint is the first line of the compiler's output that is not a heading.
func firstComplaint(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return "it does not compile"
}

// run runs the go command in the program's environment.
func (g *goCommand) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = g.dir, g.env, stdout, stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	return nil
}
