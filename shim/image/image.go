// Package image finds out what a container's image holds: a Wasm module or a Linux program.
//
// It reads what containerd already stored, through containerd's gRPC socket and its content
// directory, and looks into the root file system without mounting it. docs/images.md lists the forms it takes.
package image

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/image/layout"
)

// Kind says who runs a container.
type Kind int

const (
	// Linux containers go to runc. It is also the answer for an entrypoint that is neither Wasm nor a
	// program, so that the user reads the error that runc always gave.
	Linux Kind = iota
	// Wasm containers go to an engine.
	Wasm
)

// String returns "linux" or "wasm".
func (k Kind) String() string {
	switch k {
	case Linux:
		return "linux"
	case Wasm:
		return "wasm"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Image is what Resolve found. It holds no descriptor and needs no Close. Its methods may be used from
// several goroutines.
type Image struct {
	Kind Kind
	// Name is the image's name in containerd; empty when Kind is Linux and no question was asked, and
	// for containers without an image (ctr run --rootfs).
	Name string
	// Digest is the manifest's digest; empty where Name is.
	Digest string
	// Modules are the Wasm modules, the one to run first; empty when Kind is Linux.
	Modules []Module

	// The image's own config. What the container runs is in its OCI spec, where containerd has merged
	// these with the pod's wishes.
	Entrypoint, Cmd, Env []string
	WorkingDir           string
	Ports                []Port

	rootfs *rootfs
}

// Port is one entry of the image's ExposedPorts.
type Port = layout.Port

// Module is one Wasm module of an image.
type Module struct {
	// Name is the base name under which the image knows it, for example "app.wasm".
	Name string
	// Digest is the content's, for example "sha256:4355…": the key of the artefact store.
	Digest string
	// Size is in bytes.
	Size int64

	open func() (*os.File, error)
}

// Open returns the module's bytes, read-only and from the start; the caller closes it. Each call
// opens anew. The length is checked, and that the file is a core module; bytes that come straight
// from containerd's content directory are not hashed (see Verify).
//
// Errors are of the kinds NotFound (the content is gone), DataLoss (it is damaged) and
// InvalidArgument (it is not a module that hachi can run).
func (m *Module) Open() (*os.File, error) {
	f, err := m.open()
	if err != nil {
		return nil, fmt.Errorf("open module %s: %w", m.Name, advise(err))
	}
	if err := checkModule(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("open module %s: %w", m.Name, err)
	}
	return f, nil
}

// Verify reads all of f, which Open returned, and compares it with the module's digest; the file's
// offset stays. Do it before trusting bytes for longer than one container, for example before a
// compiled form is stored under the digest: it costs about 0.6 ms per MB.
func (m *Module) Verify(f *os.File) error {
	if err := layout.Verify(f, m.Size, m.Digest); err != nil {
		return fmt.Errorf("verify module %s: %w", m.Name, advise(err))
	}
	return nil
}

// Find returns the module that a process of this image names in Args[0], for exec: by base name, with
// or without ".wasm", among the layers, else as a path in the root file system. The kind of its error
// is NotFound when there is no such module.
func (i *Image) Find(p *specs.Process) (*Module, error) {
	if p == nil || len(p.Args) == 0 || p.Args[0] == "" {
		return nil, fmt.Errorf("find module: no command: %w", errdefs.ErrInvalidArgument)
	}
	if m := named(i.Modules, p.Args[0]); m != nil {
		return m, nil
	}
	if i.rootfs != nil {
		f, err := i.rootfs.program(p)
		if err != nil {
			return nil, fmt.Errorf("find module %q: %w", p.Args[0], err)
		}
		if f != nil {
			defer f.Close()
			if f.form.IsWasm() {
				return f.module()
			}
		}
	}
	names := make([]string, 0, len(i.Modules))
	for _, m := range i.Modules {
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("find module %q: %w (the image has %s)", p.Args[0], errdefs.ErrNotFound, strings.Join(names, ", "))
}

func named(modules []Module, arg string) *Module {
	want := path.Base(arg)
	for _, suffix := range []string{"", ".wasm"} {
		for k := range modules {
			if modules[k].Name == want+suffix {
				return &modules[k]
			}
		}
	}
	return nil
}
