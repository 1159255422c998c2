package image

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/image/grpc"
	"github.com/hachi-run/hachi/shim/image/imagepb"
	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// Source is containerd, seen as the place where images are. Several goroutines may use it.
type Source struct {
	// Address is containerd's gRPC socket, for example "/run/containerd/containerd.sock"; the form
	// "unix:///run/…" is also taken.
	Address string
	// Namespace is containerd's, for example "k8s.io".
	Namespace string
	// ContentDir is containerd's content store, for example
	// "/var/lib/containerd/io.containerd.content.v1.content". Empty: derived from the path of the
	// container's snapshot. Where the blobs are not found there, containerd's content service sends
	// them.
	ContentDir string

	once sync.Once
	grpc grpc.Client // see client
}

// Warm connects, and does not wait for containerd's part of it, so that the first Resolve need not: that saves a tenth
// of a millisecond of it. Without it, or after its error, Resolve connects by itself.
func (s *Source) Warm() error { return s.client().Warm() }

// Close releases the connection; a call in flight fails. It is idempotent. Modules of images that the
// Source resolved stay usable as long as containerd's content directory could be read directly.
func (s *Source) Close() error { return s.client().Close() }

// Annotations that containerd's CRI plugin sets itself, after those of the pod.
const (
	criType  = "io.kubernetes.cri.container-type"
	criImage = "io.kubernetes.cri.image-name"
)

// Look is a first look at a container: what its root file system says of its image, without a question to containerd.
type Look struct {
	source    *Source
	container string
	spec      *specs.Spec
	root      *rootfs
	file      *program // nil if the command names none
}

// Look looks at a container. spec is the bundle's config.json and mounts are those of the task's Create request; nothing
// is mounted. The caller closes the Look. The error is InvalidArgument, or one of reading.
func (s *Source) Look(container string, spec *specs.Spec, mounts []specs.Mount) (*Look, error) {
	if spec == nil {
		return nil, fmt.Errorf("resolve image of container %s: no OCI spec: %w", container, errdefs.ErrInvalidArgument)
	}
	l := &Look{source: s, container: container, spec: spec, root: newRootfs(mounts, spec)}
	var err error
	if l.file, err = l.root.program(spec.Process); err != nil {
		return nil, fmt.Errorf("resolve image of container %s: %w", container, err)
	}
	return l, nil
}

func (l *Look) form() wasmbin.Form {
	if l.file == nil {
		return wasmbin.Other
	}
	return l.file.form
}

// Likely is what the container almost always turns out to be: a command that is no file is the name of a Wasm layer.
func (l *Look) Likely() Kind {
	if l.form().IsWasm() || l.file == nil && l.root != nil {
		return Wasm
	}
	return Linux
}

// Close releases what Look opened. A second Close does nothing.
func (l *Look) Close() {
	if l.file != nil {
		l.file.Close()
	}
}

// Resolve tells what the container's image holds. A container whose entrypoint is a Linux program is
// answered without a question; others cost one or two short calls to containerd, which wait at most
// 10 s.
//
// Errors are of the kinds NotFound (containerd has no such container, image or content), DataLoss,
// InvalidArgument (the image is malformed) and FailedPrecondition (an image that cannot run; the
// message says what to do).
func (l *Look) Resolve(ctx context.Context) (*Image, error) {
	i, err := l.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("resolve image of container %s: %w", l.container, err)
	}
	return i, nil
}

// Resolve is Look and Look's Resolve.
func (s *Source) Resolve(ctx context.Context, container string, spec *specs.Spec, mounts []specs.Mount) (*Image, error) {
	l, err := s.Look(container, spec, mounts)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Resolve(ctx)
}

func (l *Look) resolve(ctx context.Context) (*Image, error) {
	s, spec, root, form := l.source, l.spec, l.root, l.form()
	if form == wasmbin.ELF || form == wasmbin.Script {
		return &Image{Kind: Linux}, nil
	}

	name, target, err := s.lookUp(ctx, l.container, spec)
	if err != nil {
		// The record may be gone (ctr image rm) while the snapshot still holds the module.
		if !form.IsWasm() || !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	image := &Image{Name: name, rootfs: root}
	if target != nil {
		image.Digest = target.Digest
		content := &store{Source: s, dir: s.ContentDir}
		if content.dir == "" {
			content.dir = root.contentDir()
		}
		config, err := image.read(ctx, content, *target, spec.Process, form)
		if err == nil && config == layout.BareConfig && spec.Annotations[criType] != "" {
			err = content.twins(ctx, image.Digest)
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, advise(err))
		}
	}
	switch {
	case len(image.Modules) > 0:
		image.Kind = Wasm
	case form.IsWasm():
		m, err := l.file.module()
		if err != nil {
			return nil, err
		}
		image.Kind, image.Modules = Wasm, []Module{*m}
	}
	return image, nil
}

// lookUp asks containerd for the container's image. A container without one gives no target.
func (s *Source) lookUp(ctx context.Context, container string, spec *specs.Spec) (string, *layout.Descriptor, error) {
	if s.Address == "" || s.Namespace == "" {
		return "", nil, fmt.Errorf("containerd's address %q or namespace %q is empty: %w", s.Address, s.Namespace, errdefs.ErrInvalidArgument)
	}
	var name string
	var target layout.Descriptor
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		// kubelet's wording of the name ("nginx") need not be containerd's; then the record decides.
		if spec.Annotations[criType] == "container" && spec.Annotations[criImage] != "" {
			name = spec.Annotations[criImage]
			if target, err = s.target(ctx, name); err == nil {
				return nil
			}
		}
		var reply imagepb.GetContainerResponse
		if err := s.unary(ctx, containersGet, &imagepb.GetContainerRequest{Id: container}, &reply); err != nil {
			return err
		}
		if name = reply.GetContainer().GetImage(); name == "" {
			return nil
		}
		target, err = s.target(ctx, name)
		return err
	})
	if err != nil {
		if name != "" {
			err = fmt.Errorf("image %s: %w", name, err)
		}
		return name, nil, err
	}
	if name == "" {
		return "", nil, nil
	}
	if err := layout.CheckDescriptor(target); err != nil {
		return name, nil, errors.Join(fmt.Errorf("image %s: %w", name, err), errdefs.ErrInvalidArgument)
	}
	return name, &target, nil
}

// target asks for the image of a name.
func (s *Source) target(ctx context.Context, name string) (layout.Descriptor, error) {
	var reply imagepb.GetImageResponse
	err := s.unary(ctx, imagesGet, &imagepb.GetImageRequest{Name: name}, &reply)
	return descriptor(reply.GetImage()), err
}

// descriptor is an image's target.
func descriptor(i *imagepb.Image) layout.Descriptor {
	d := i.GetTarget()
	return layout.Descriptor{MediaType: d.GetMediaType(), Digest: d.GetDigest(), Size: d.GetSize()}
}
