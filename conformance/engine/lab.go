package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/wire"
)

// lab holds what all measurements share.
type lab struct {
	top, dir, engine string
	n                int
	round            time.Duration

	http, idle, kernels, spin program
	native                    string // hello-http for this machine
}

// program is a guest and its artefact. A program without a file could not be built here.
type program struct{ file, artifact string }

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// build builds the guests. Without a C compiler for Wasm what needs one is left out, with a word.
func (l *lab) build(ctx context.Context) error {
	hello := filepath.Join(l.top, "samples", "hello-http")
	l.native, l.http.file = l.path("hello-http"), l.path("http.wasm")
	err := errors.Join(guest.Go(guest.Linux, hello, l.native), guest.Go(guest.WASI, hello, l.http.file))
	if err != nil {
		return err
	}
	l.spin.file = l.path("spin.wasm")
	// _start is a loop that does nothing else.
	spin := "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"
	if err := os.WriteFile(l.spin.file, []byte(spin), 0o600); err != nil {
		return err
	}
	if guest.HaveC(guest.WASI) {
		l.idle.file, l.kernels.file = l.path("idle.wasm"), l.path("kernels.wasm")
		err := guest.C(guest.WASI, filepath.Join(l.top, "conformance", "coldstart", "idle", "idle.c"), l.idle.file)
		cc := exec.Command("clang", "--target=wasm32", "-O2", "-fno-builtin", "-nostdlib", "-Wl,--no-entry", "-o", l.kernels.file,
			filepath.Join(l.top, "runtime", "artifact", "testdata", "kernels.c"))
		if out, err2 := cc.CombinedOutput(); err2 != nil {
			err = errors.Join(err, fmt.Errorf("%v: %w\n%s", cc.Args, err2, out))
		}
		if err != nil {
			return err
		}
	} else {
		fmt.Fprintln(os.Stderr, "engine: no C compiler for Wasm (make deps): C guests and kernels are left out")
	}
	for _, p := range []*program{&l.http, &l.idle, &l.kernels, &l.spin} {
		if p.file == "" {
			continue
		}
		p.artifact = p.file + ".artifact"
		if _, err := l.compile(ctx, *p); err != nil {
			return err
		}
	}
	return nil
}

// compile makes the program's artefact as the shim does, and returns how long that took.
func (l *lab) compile(ctx context.Context, p program) (time.Duration, error) {
	module, err := os.Open(p.file)
	if err != nil {
		return 0, err
	}
	defer module.Close()
	out, err := os.Create(p.artifact)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	began := time.Now()
	err = engine.Compiler(l.engine, nil)(ctx, module, out)
	return time.Since(began), err
}

// start starts an engine with the program loaded and not yet running. With an address it listens there for the guest.
func (l *lab) start(ctx context.Context, p program, starter engine.Starter, address string) (*engine.Process, error) {
	g := engine.Guest{Name: filepath.Base(p.file), Config: wire.Config{Args: []string{"guest"}}}
	if address != "" {
		g.Config.Listeners = []wire.Listener{{Name: "http", Address: address}}
	}
	var err error
	if g.Module, err = os.Open(p.file); err != nil {
		return nil, err
	}
	defer g.Module.Close()
	if g.Artifact, err = os.Open(p.artifact); err != nil {
		return nil, err
	}
	defer g.Artifact.Close()
	e, err := engine.Start(engine.Options{Binary: l.engine, Starter: starter})
	if err != nil {
		return nil, err
	}
	return e, e.Load(ctx, g)
}

func end(e *engine.Process) {
	e.Kill()
	<-e.Done()
}

// listen opens a listening socket on loopback, as a file to hand on.
func listen() (*os.File, string, error) {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // guests ask for their sockets' kind
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	return f, l.Addr().String(), err
}

// free is an address on loopback that nobody listens on.
func free() (string, error) {
	f, address, err := listen()
	if err != nil {
		return "", err
	}
	return address, f.Close()
}
