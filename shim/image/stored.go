package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/image/imagepb"
	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// undoTime bounds the removal of the snapshot that Stored made.
const undoTime = 5 * time.Second

// Stored gives use the image that containerd has under a name, as a container made of it sees it that runs the image's
// own command. The image is valid until use returns, whose error Stored returns.
//
// A module in a tar layer is found where snapshotter, for example "overlayfs", unpacked it; for that a view of the layers is
// made in containerd and removed again. The kinds of errors are Resolve's.
func (s *Source) Stored(ctx context.Context, name, snapshotter string, use func(*Image) error) error {
	if err := s.stored(ctx, name, snapshotter, use); err != nil {
		return fmt.Errorf("image %s: %w", name, advise(err))
	}
	return nil
}

func (s *Source) stored(ctx context.Context, name, snapshotter string, use func(*Image) error) error {
	var target layout.Descriptor
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		target, err = s.target(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	if err := layout.CheckDescriptor(target); err != nil {
		return errors.Join(err, errdefs.ErrInvalidArgument)
	}
	content := &store{Source: s, dir: s.ContentDir}
	sel := selector{store: content, committed: -1}
	chosen, err := sel.pick(ctx, target)
	if err != nil {
		return err
	}
	config, err := content.config(ctx, chosen.manifest.Config)
	if err != nil {
		return err
	}
	process := &specs.Process{
		Args: append(config.Config.Entrypoint[:len(config.Config.Entrypoint):len(config.Config.Entrypoint)], config.Config.Cmd...),
		Env:  config.Config.Env, Cwd: config.Config.WorkingDir,
	}
	i := &Image{Name: name}
	if tarLayers(chosen.manifest) == 0 {
		if _, err := i.read(ctx, content, target, process, wasmbin.Other); err != nil {
			return err
		}
		return use(i.kinded())
	}
	return s.viewed(ctx, snapshotter, config.RootFS.DiffIDs, func(mounts []specs.Mount) error {
		i.rootfs = newRootfs(mounts, new(specs.Spec))
		file, err := i.rootfs.program(process)
		if err != nil {
			return err
		}
		form := wasmbin.Other
		if file != nil {
			defer file.Close()
			form = file.form
		}
		if form == wasmbin.ELF || form == wasmbin.Script {
			return use(i.kinded())
		}
		if _, err := i.read(ctx, content, target, process, form); err != nil {
			return err
		}
		if len(i.Modules) == 0 && form.IsWasm() {
			m, err := file.module()
			if err != nil {
				return err
			}
			i.Modules = []Module{*m}
		}
		return use(i.kinded())
	})
}

func (i *Image) kinded() *Image {
	if len(i.Modules) > 0 {
		i.Kind = Wasm
	}
	return i
}

// viewed gives use the mounts of unpacked layers. A view that a crash leaves behind belongs to nobody, so containerd's
// garbage collector takes it.
func (s *Source) viewed(ctx context.Context, snapshotter string, layers []string, use func([]specs.Mount) error) (err error) {
	key := "hachi-prepare-" + rand.Text()
	var reply imagepb.ViewSnapshotResponse
	err = s.ask(ctx, func(ctx context.Context) error {
		reply.Reset()
		return s.unary(ctx, snapshotsView, &imagepb.ViewSnapshotRequest{Snapshotter: snapshotter, Key: key, Parent: chainID(layers)}, &reply)
	})
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("its layers are not unpacked in snapshotter %s: %w (pull or import the image for this platform)", snapshotter, err)
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		removed := s.ask(ctx, func(ctx context.Context) error {
			return s.call(ctx, snapshotsRemove, &imagepb.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key}, func([]byte) error { return nil })
		})
		if !errdefs.IsNotFound(removed) { // the collector was quicker; the layers are the image's and have stayed
			err = errors.Join(err, removed)
		}
	}()
	var mounts []specs.Mount
	for _, m := range reply.Mounts {
		mounts = append(mounts, specs.Mount{Destination: m.GetTarget(), Type: m.GetType(), Source: m.GetSource(), Options: m.GetOptions()})
	}
	return use(mounts)
}

// chainID is the name of a snapshot with these layers in it, as image-spec's config.md has it.
func chainID(layers []string) string {
	if len(layers) == 0 {
		return ""
	}
	id := layers[0]
	for _, l := range layers[1:] {
		sum := sha256.Sum256([]byte(id + " " + l))
		id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return id
}
