package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archive writes an OCI archive, whole or not at all. Equal images give equal bytes.
func archive(ctx context.Context, out, name string, images []mutate.IndexAddendum) error {
	dir, err := os.MkdirTemp("", "hachi-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{"io.containerd.image.name": name})
	if len(images) == 1 {
		img := images[0].Add.(v1.Image)
		err = l.AppendImage(img, named, layout.WithPlatform(*images[0].Platform))
	} else {
		err = l.AppendIndex(mutate.IndexMediaType(mutate.AppendManifests(empty.Index, images...), types.OCIImageIndex), named)
	}
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(pour(ctx, f, dir), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), out)
	}
	return err
}

// pour writes a folder's files as a tar, in the order of their names.
func pour(ctx context.Context, to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: short, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(raw)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
	return errors.Join(err, w.Close())
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// isStatic refuses a program that would not run in an image that holds nothing else, or on another host.
func isStatic(program []byte, arch string) error {
	want, ok := machines[arch]
	if !ok {
		return fmt.Errorf("architecture %q: unknown (want amd64 or arm64)", arch)
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	if f.Machine != want {
		return fmt.Errorf("is for %v, not for %s", f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("not static (build it with CGO_ENABLED=0)")
		}
	}
	return nil
}
