package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/hachi-run/hachi/internal/testenv/cni"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

// side is one of the two that are compared.
type side struct{ name, runtime, handler, tag string }

var sides = []side{
	{"hachi", "io.containerd.hachi.v1", "hachi", "wasm"},
	{"runc", "io.containerd.runc.v2", "runc", "linux"},
}

const pauseImage = "bench.test/pause:linux"

// image is the program's name for one side.
func (s side) image(program string) string { return "bench.test/" + program + ":" + s.tag }

// bench is a containerd with every program in it, for both sides and for CRI.
type bench struct {
	dir, bin string
	d        *daemon.Daemon
	c        *client.Client
	serial   int
	scope    leak.Scope
	before   leak.State
}

func newBench(ctx context.Context, top, dir string) (b *bench, err error) {
	b = &bench{dir: dir, bin: filepath.Join(top, "bin")}
	b.scope = leak.Scope{Marks: []string{filepath.Base(dir)}, Trees: []string{"/run/hachi"}}
	b.before = leak.Take(b.scope)
	plugin := filepath.Join(dir, "cni-plugin")
	if err := guest.Go(guest.Linux, filepath.Join(top, cni.Plugin), plugin); err != nil {
		return nil, err
	}
	cniBin, cniConf, err := cni.Install(dir, plugin)
	if err != nil {
		return nil, err
	}
	b.d, err = daemon.Start(ctx, daemon.Options{
		Bin: filepath.Join(b.bin, "tools", "containerd-2.4.2"), Path: []string{b.bin}, Dir: dir, LogLevel: "info",
		CRI: &daemon.CRI{Handlers: map[string]string{"hachi": "io.containerd.hachi.v1"}, PauseImage: pauseImage, CNIBin: cniBin, CNIConf: cniConf},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.c, err = client.New(b.d.Address); err != nil {
		return nil, err
	}
	for program, src := range map[string]string{
		"hello": "samples/hello-c/hello.c", "idle": "conformance/coldstart/idle/idle.c", "http": "samples/hello-http",
	} {
		if err := b.program(ctx, top, program, src); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// namespace is where `ctr`'s containers are; CRI has its own.
func (b *bench) namespace() string { return b.d.Mark() }

func (b *bench) ctx(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, b.namespace())
}

// program compiles a program twice and imports both images into both namespaces.
func (b *bench) program(ctx context.Context, top, name, src string) error {
	compile := guest.Go
	if strings.HasSuffix(src, ".c") {
		compile = guest.C
	}
	wasm, native := filepath.Join(b.dir, name+".wasm"), filepath.Join(b.dir, name)
	for target, out := range map[guest.Target]string{guest.WASI: wasm, guest.Linux: native} {
		if err := compile(target, filepath.Join(top, src), out); err != nil {
			return fmt.Errorf("%w (make deps installs the compilers)", err)
		}
	}
	archives := []string{filepath.Join(b.dir, name+"-wasm.tar"), filepath.Join(b.dir, name+"-linux.tar")}
	args := []string{"build", wasm, "-t", sides[0].image(name), "-o", archives[0]}
	if name == "http" {
		args = append(args, "--port", "8080")
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(b.bin, "hachi"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("hachi build: %w\n%s", err, out)
	}
	img, err := linux.Image([]linux.File{{Path: "bin/" + name, From: native}}, v1.Config{Entrypoint: []string{"/bin/" + name}})
	if err != nil {
		return err
	}
	if err := linux.Archive(img, sides[1].image(name), archives[1]); err != nil {
		return err
	}
	if name == "idle" {
		archives = append(archives, filepath.Join(b.dir, "pause.tar"))
		if err := linux.Archive(img, pauseImage, archives[2]); err != nil {
			return err
		}
	}
	for _, archive := range archives {
		for _, ns := range []string{b.namespace(), "k8s.io"} {
			if _, err := b.d.Ctr(ctx, "-n", ns, "image", "import", "--all-platforms", archive); err != nil {
				return err
			}
		}
	}
	return nil
}

// close ends containerd and, when a measurement broke off, what it left running. It looks for leaks as the tests do.
func (b *bench) close() error {
	var errs []error
	if b.c != nil {
		for _, ns := range []string{b.namespace(), "k8s.io"} {
			errs = append(errs, b.removeAll(namespaces.WithNamespace(context.Background(), ns)))
		}
		b.c.Close()
	}
	errs = append(errs, b.d.Stop(), b.d.Remove())
	daemon.RemoveCgroups(b.namespace())
	for _, left := range leak.Since(b.before, b.scope, 5*time.Second) {
		errs = append(errs, fmt.Errorf("left behind: %s", left))
	}
	return errors.Join(errs...)
}

func (b *bench) removeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all, err := b.c.Containers(ctx)
	for _, c := range all {
		if t, e := c.Task(ctx, nil); e == nil {
			_, e = t.Delete(ctx, client.WithProcessKill)
			err = errors.Join(err, e)
		}
		err = errors.Join(err, c.Delete(ctx, client.WithSnapshotCleanup))
	}
	return err
}

func (b *bench) id(s side) string {
	b.serial++
	return fmt.Sprintf("%s-%d", s.name, b.serial)
}
