package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hachi-run/hachi/shim/image/pack"
)

type buildFlags struct {
	pack.Options
	source      sourceFlags
	output      string
	push, plain bool
}

func newBuildCommand() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build {MODULE | --go PACKAGE | --c FILE...} -t NAME [flags]",
		Short: "Pack a Wasm module into an image, or compile one first",
		Long: `Pack a WebAssembly core module into an OCI image, and write it as an OCI archive or push it to a registry.

NAME is completed as Docker and Kubernetes do: "app" is docker.io/library/app:latest. Without -o and --push the archive
is the last word of NAME with ".tar", in the current directory. Equal input gives an equal image, byte for byte; its
time is that of SOURCE_DATE_EPOCH, else the start of 1970.

An image without --dir is for wasip1/wasm and runs on hosts of every architecture. With --dir it holds a tar layer,
which containerd unpacks only in images for a Linux host; --arch names that host.

--go and --c compile an ordinary program in which servers and clients work: net/http, gRPC, database drivers and all
that stands on Go's package net; BSD sockets in C. With -o FILE.wasm and no -t the module is written alone, for hachi run.`,
		Example: `  hachi build app.wasm -t localhost/app:v1 -o app.tar && ctr image import --all-platforms app.tar
  hachi build app.wasm -t localhost:5000/app:v1 --push --port 8080 --env GREETING=hi
  hachi build app.wasm -t registry.example/app:v1 --push --dir ./public:/srv
  hachi build app.wasm -t localhost/app:v1 -o - | ctr image import --all-platforms -
  hachi build --go ./cmd/app -t localhost:5000/app:v1 --push --port 8080
  hachi build --c main.c util.c --cflags "-g -Wall" -o main.wasm`,
		Args: f.source.args,
		RunE: func(c *cobra.Command, args []string) error {
			if f.source.given() {
				return f.buildSource(c, args)
			}
			f.Module = args[0]
			return f.build(c)
		},
	}
	flags := c.Flags()
	flags.StringVarP(&f.Name, "tag", "t", "", "the image's `NAME`")
	flags.StringVarP(&f.output, "output", "o", "", "write an OCI archive to `FILE`; - is stdout")
	flags.BoolVar(&f.push, "push", false, "push to the registry in NAME")
	flags.StringArrayVar(&f.Entrypoint, "entrypoint", nil, "the command's first word, `/app.wasm`; again for more words (default: the module's name)")
	flags.StringArrayVar(&f.Cmd, "cmd", nil, "one default `ARGUMENT` of the command; again for more")
	flags.StringArrayVarP(&f.Env, "env", "e", nil, "environment variable `NAME=VALUE`")
	flags.StringArrayVarP(&f.Ports, "port", "p", nil, "`PORT[/tcp]` that the service listens on")
	flags.StringArrayVar(&f.Dirs, "dir", nil, "directory of static files, `HOST[:GUEST]`")
	flags.StringVarP(&f.WorkingDir, "workdir", "w", "", "working directory inside the guest")
	flags.StringVar(&f.Arch, "arch", "", "with --dir, the host's `ARCHITECTURE` in Go's words (default: this machine's)")
	flags.BoolVar(&f.plain, "plain-http", false, "allow a registry without TLS that is not on this machine")
	f.source.register(c)
	return c
}

func (f *buildFlags) build(c *cobra.Command) error {
	switch {
	case f.Name == "":
		return usagef("no name (say -t NAME, for example -t localhost/app:v1)")
	case f.Arch != "" && len(f.Dirs) == 0:
		return usagef("--arch without --dir: an image of a module alone is for every architecture")
	}
	var err error
	if f.Created, err = pack.Epoch(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	i, err := pack.Build(f.Options)
	if err != nil {
		return err
	}
	defer i.Close()
	ctx, stop := interruptible(c.Context())
	defer stop()

	if f.output == "" && !f.push {
		f.output = archiveName(i.Name)
	}
	if err := save(ctx, c.OutOrStdout(), i, f.output); err != nil {
		return err
	}
	say := c.ErrOrStderr()
	fmt.Fprintf(say, "built  %s (%s)\n", i.Name, i.Target.Digest)
	if f.output != "" && f.output != "-" {
		fmt.Fprintf(say, "wrote  %s (ctr image import --all-platforms %s)\n", f.output, f.output)
	}
	if f.push {
		pinned, err := pack.Registry{PlainHTTP: f.plain}.Push(ctx, i, i.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(say, "pushed %s\n", pinned)
	}
	return nil
}

func save(ctx context.Context, stdout io.Writer, i *pack.Image, file string) error {
	switch file {
	case "":
		return nil
	case "-":
		if out, ok := stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
			return errors.New("an archive is nothing to look at (pipe stdout, or say -o FILE)")
		}
		return i.WriteArchive(ctx, stdout)
	}
	return i.Save(ctx, file)
}

// archiveName is the last word of an image's name with ".tar".
func archiveName(full string) string {
	if named, err := reference.ParseNormalizedNamed(full); err == nil {
		return path.Base(reference.Path(named)) + ".tar"
	}
	return strings.ReplaceAll(full, "/", "-") + ".tar"
}
