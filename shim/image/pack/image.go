// Package pack makes images of Wasm modules, writes and reads OCI archives, and pushes to registries.
package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hachi-run/hachi/shim/image/layout"
)

// Image is a manifest, or an index, and all below it. It is not for concurrent use.
type Image struct {
	// Name is the full name, for example "docker.io/library/app:latest"; empty when an archive gives
	// none.
	Name string
	// Target is what Name stands for.
	Target ocispec.Descriptor

	blobs map[digest.Digest]*io.SectionReader
	// fetch gets what blobs lacks; nil when there is nowhere to get it from.
	fetch func(context.Context, ocispec.Descriptor) (*io.SectionReader, error)
	files []*os.File
}

// Close releases the files behind the image. It is idempotent.
func (i *Image) Close() error {
	var errs []error
	for _, f := range i.files {
		errs = append(errs, f.Close())
	}
	i.files = nil
	return errors.Join(errs...)
}

// Blob returns the content that d describes, with its digest proven. It stays valid until Close.
func (i *Image) Blob(ctx context.Context, d ocispec.Descriptor) (*io.SectionReader, error) {
	r, ok := i.blobs[d.Digest]
	if !ok && i.fetch == nil {
		return nil, fmt.Errorf("content %s: not in the archive (write it again with every platform)", d.Digest)
	}
	if !ok {
		var err error
		if r, err = i.fetch(ctx, d); err != nil {
			return nil, fmt.Errorf("content %s: %w", d.Digest, err)
		}
		i.blobs[d.Digest] = r
	}
	if err := layout.Verify(r, d.Size, string(d.Digest)); err != nil {
		return nil, fmt.Errorf("content %s: %w", d.Digest, err)
	}
	return r, nil
}

// document returns a small blob.
func (i *Image) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > layout.MaxDocument {
		return nil, fmt.Errorf("content %s: %d bytes exceed %d", d.Digest, d.Size, layout.MaxDocument)
	}
	r, err := i.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, d.Size)
	if _, err := r.ReadAt(raw, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("content %s: %w", d.Digest, err)
	}
	return raw, nil
}

// put adds content that is at hand.
func (i *Image) put(mediaType string, content []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	i.blobs[d.Digest] = io.NewSectionReader(reader(content), 0, d.Size)
	return d
}

// reader is a byte slice as an io.ReaderAt.
type reader []byte

func (r reader) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(p, r[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Manifest is one image of an Image: an index may have several.
type Manifest struct {
	Desc     ocispec.Descriptor
	Platform ocispec.Platform // the index's word, else the config's
	Manifest *ocispec.Manifest
	Config   *ocispec.Image
}

// walk visits every document and blob of the image once, children before parents.
func (i *Image) walk(ctx context.Context, visit func(ocispec.Descriptor, []byte) error) error {
	seen := map[digest.Digest]bool{}
	var down func(d ocispec.Descriptor, depth int) error
	down = func(d ocispec.Descriptor, depth int) error {
		if seen[d.Digest] {
			return nil
		}
		seen[d.Digest] = true
		if len(seen) > 10_000 || depth > 4 {
			return errors.New("too many or too deeply nested documents")
		}
		var children []ocispec.Descriptor
		var raw []byte
		var err error
		switch {
		case layout.IsIndex(d.MediaType):
			if raw, err = i.document(ctx, d); err != nil {
				return fmt.Errorf("index: %w", err)
			}
			x, err := parse[ocispec.Index](raw, layout.ParseIndex)
			if err != nil {
				return fmt.Errorf("index %s: %w", d.Digest, err)
			}
			children = x.Manifests
		case layout.IsManifest(d.MediaType):
			if raw, err = i.document(ctx, d); err != nil {
				return fmt.Errorf("manifest: %w", err)
			}
			m, err := parse[ocispec.Manifest](raw, layout.ParseManifest)
			if err != nil {
				return fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			children = append([]ocispec.Descriptor{m.Config}, m.Layers...)
		}
		for _, child := range children {
			if err := down(child, depth+1); err != nil {
				return err
			}
		}
		return visit(d, raw)
	}
	return down(i.Target, 0)
}

// Manifests reads the image's manifests and their configs, in the order of the index. It does not
// read layers.
func (i *Image) Manifests(ctx context.Context) ([]Manifest, error) {
	var out []Manifest
	var down func(d ocispec.Descriptor, depth int) error
	down = func(d ocispec.Descriptor, depth int) error {
		raw, err := i.document(ctx, d)
		if err != nil {
			return err
		}
		switch {
		case layout.IsManifest(d.MediaType):
			m, err := parse[ocispec.Manifest](raw, layout.ParseManifest)
			if err != nil {
				return fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			config, err := i.config(ctx, m.Config)
			if err != nil {
				return err
			}
			one := Manifest{Desc: d, Manifest: m, Config: config, Platform: config.Platform}
			if d.Platform != nil {
				one.Platform = *d.Platform
			}
			out = append(out, one)
		case layout.IsIndex(d.MediaType) && depth < 4:
			x, err := parse[ocispec.Index](raw, layout.ParseIndex)
			if err != nil {
				return fmt.Errorf("index %s: %w", d.Digest, err)
			}
			for _, child := range x.Manifests {
				if err := down(child, depth+1); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("media type %.100q is neither a manifest nor an index", d.MediaType)
		}
		return nil
	}
	return out, down(i.Target, 0)
}

func (i *Image) config(ctx context.Context, d ocispec.Descriptor) (*ocispec.Image, error) {
	raw, err := i.document(ctx, d)
	if err != nil {
		return nil, err
	}
	c, err := parse[ocispec.Image](raw, layout.ParseConfig)
	if err != nil && !layout.IsImageConfig(d.MediaType) {
		return new(ocispec.Image), nil
	}
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", d.Digest, err)
	}
	return c, nil
}
