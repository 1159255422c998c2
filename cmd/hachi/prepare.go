package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/runtime/artifact/store"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/doctor"
	"github.com/hachi-run/hachi/shim/image"
)

type prepareFlags struct {
	address, namespace, snapshotter string
}

func newPrepareCommand() *cobra.Command {
	var f prepareFlags
	c := &cobra.Command{
		Use:   "prepare [flags] MODULE|IMAGE...",
		Short: "Compile modules ahead, so that their first start is as fast as the others",
		Long: `Compile Wasm modules into this node's store of machine code, where the shim finds them: the first container of an
image then starts without compiling. The argument is a .wasm file, or the name of an image that containerd has.

As an ordinary user the store is one's own, which hachi run uses.`,
		Example: `  hachi prepare localhost/app:v1
  hachi prepare -n k8s.io registry.example/app:v1
  hachi prepare app.wasm && hachi run app.wasm`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	flags := c.Flags()
	flags.StringVarP(&f.address, "address", "a", cmp.Or(os.Getenv("CONTAINERD_ADDRESS"), doctor.DefaultAddress), "containerd's `SOCKET`")
	flags.StringVarP(&f.namespace, "namespace", "n", cmp.Or(os.Getenv("CONTAINERD_NAMESPACE"), "default"), "containerd's `NAMESPACE`; Kubernetes uses k8s.io")
	flags.StringVar(&f.snapshotter, "snapshotter", cmp.Or(os.Getenv("CONTAINERD_SNAPSHOTTER"), "overlayfs"), "where images with tar layers are unpacked")
	return c
}

func (f *prepareFlags) run(c *cobra.Command, args []string) error {
	ctx, stop := interruptible(c.Context())
	defer stop()
	p, err := newPreparer(c)
	if err != nil {
		return err
	}
	source := &image.Source{Address: f.address, Namespace: f.namespace}
	defer source.Close()
	for _, arg := range args {
		if isFile(arg) {
			err = p.file(ctx, arg)
		} else {
			err = f.image(ctx, p, source, arg)
		}
		if err != nil {
			return fmt.Errorf("prepare %s: %w", arg, err)
		}
	}
	return nil
}

// isFile tells a module's path from an image's name: it is there, or it can be nothing else.
func isFile(arg string) bool {
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir() || strings.HasSuffix(arg, ".wasm") || strings.HasPrefix(arg, ".") || filepath.IsAbs(arg)
}

// image compiles the modules of an image. ctr stores names as they were typed, and Kubernetes the full ones.
func (f *prepareFlags) image(ctx context.Context, p *preparer, source *image.Source, name string) error {
	use := func(i *image.Image) error {
		if i.Kind != image.Wasm {
			return errors.New("no Wasm module in it (a Linux image: runc runs it, and there is nothing to compile)")
		}
		for k := range i.Modules {
			if err := p.module(ctx, name, &i.Modules[k]); err != nil {
				return err
			}
		}
		return nil
	}
	err := source.Stored(ctx, name, f.snapshotter, use)
	if full, ok := fullName(name); ok && errdefs.IsNotFound(err) && full != name {
		if again := source.Stored(ctx, full, f.snapshotter, use); !errdefs.IsNotFound(again) {
			return again
		}
	}
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%w (in containerd's namespace %s; say -n for another one)", err, f.namespace)
	}
	return err
}

func fullName(name string) (string, bool) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false
	}
	return reference.TagNameOnly(named).String(), true
}

// preparer compiles into the store and says what it did.
type preparer struct {
	c     *cobra.Command
	store *store.Store
	// worked says that the store had to compile.
	worked bool
}

func newPreparer(c *cobra.Command) (*preparer, error) {
	binary, err := engineBinary()
	if err != nil {
		return nil, err
	}
	p := &preparer{c: c}
	compile := engine.Compiler(binary, nil)
	p.store, err = store.Open(store.Options{
		Dir: artifactDir(),
		Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		Compile: func(ctx context.Context, module, out *os.File) error {
			p.worked = true
			return compile(ctx, module, out)
		},
	})
	return p, err
}

func (p *preparer) file(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	digest, err := store.Digest(f)
	if err != nil {
		return err
	}
	return p.compile(ctx, path, digest, f)
}

func (p *preparer) module(ctx context.Context, name string, m *image.Module) error {
	f, err := m.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	return p.compile(ctx, name+" "+m.Name, m.Digest, f)
}

func (p *preparer) compile(ctx context.Context, what, digest string, module *os.File) error {
	p.worked = false
	begin := time.Now()
	artifact, err := p.store.Get(ctx, digest, module)
	if err != nil {
		return err
	}
	defer artifact.Close()
	info, err := os.Stat(p.store.Path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("compiled, but it could not be stored (see the warning above)")
	}
	if err != nil {
		return err
	}
	size := units.BytesSize(float64(info.Size()))
	if !p.worked {
		_, err = fmt.Fprintf(p.c.OutOrStdout(), "present   %s (%s of machine code)\n", harmless(what), size)
		return err
	}
	_, err = fmt.Fprintf(p.c.OutOrStdout(), "compiled  %s (%s of machine code, %v)\n", harmless(what), size, time.Since(begin).Round(time.Millisecond))
	return err
}
