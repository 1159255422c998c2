package pack

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hachi-run/hachi/internal/version"
	"github.com/hachi-run/hachi/shim/image/layout"
)

// Registry says how to talk to one. The zero value uses the credentials that docker login or podman
// login stored, and plain HTTP for registries on this machine only.
type Registry struct {
	// PlainHTTP allows HTTP without TLS for every registry.
	PlainHTTP bool
}

// Push uploads the image under a name, which may be short, and returns what it is then known as, for
// example "localhost:5000/app@sha256:…". Blobs that the registry has are not sent again.
func (r Registry) Push(ctx context.Context, i *Image, as string) (string, error) {
	full, err := FullName(as)
	if err != nil {
		return "", err
	}
	pinned, err := r.push(ctx, i, full)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", full, explain(err))
	}
	return pinned, nil
}

func (r Registry) push(ctx context.Context, i *Image, full string) (string, error) {
	ref, err := remoteRef(full, r.PlainHTTP)
	if err != nil {
		return "", err
	}
	pusher, err := remote.NewPusher(r.options(ctx, ref)...)
	if err != nil {
		return "", err
	}
	repository := ref.Context()
	err = i.walk(ctx, func(d ocispec.Descriptor, raw []byte) error {
		if raw == nil {
			return pusher.Upload(ctx, repository, &blob{ctx: ctx, image: i, desc: d})
		}
		// A child is named by its digest, the image itself by its tag.
		var to name.Reference = repository.Digest(d.Digest.String())
		if d.Digest == i.Target.Digest {
			to = ref
		}
		return pusher.Push(ctx, to, document{raw, types.MediaType(d.MediaType)})
	})
	if err != nil {
		return "", err
	}
	return repository.Digest(i.Target.Digest.String()).String(), nil
}

// Open reads an image from its registry; content is fetched when it is asked for. Close the result.
func (r Registry) Open(ctx context.Context, short string) (*Image, error) {
	full, err := FullName(short)
	if err != nil {
		return nil, err
	}
	ref, err := remoteRef(full, r.PlainHTTP)
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller(r.options(ctx, ref)...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, explain(err))
	}
	top, err := puller.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, explain(err))
	}
	i := &Image{Name: full, blobs: map[digest.Digest]*io.SectionReader{}}
	i.Target = i.put(string(top.MediaType), top.Manifest)
	i.fetch = func(ctx context.Context, d ocispec.Descriptor) (*io.SectionReader, error) {
		at := ref.Context().Digest(d.Digest.String())
		if layout.IsManifest(d.MediaType) || layout.IsIndex(d.MediaType) {
			child, err := puller.Get(ctx, at)
			if err != nil {
				return nil, explain(err)
			}
			return io.NewSectionReader(reader(child.Manifest), 0, int64(len(child.Manifest))), nil
		}
		return i.download(ctx, puller, at, d)
	}
	return i, nil
}

func (i *Image) download(ctx context.Context, puller *remote.Puller, at name.Digest, d ocispec.Descriptor) (*io.SectionReader, error) {
	layer, err := puller.Layer(ctx, at)
	if err != nil {
		return nil, explain(err)
	}
	body, err := layer.Compressed() // the bytes as the registry has them
	if err != nil {
		return nil, explain(err)
	}
	defer body.Close()
	f, err := i.scratch()
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(body, d.Size+1))
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, n), nil
}

func (r Registry) options(ctx context.Context, ref name.Reference) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("hachi/" + version.Get().Version),
		remote.WithTransport(guard{plain: r.PlainHTTP || loopback(ref.Context().RegistryStr())}),
	}
}

// document is a manifest or an index for the registry client.
type document struct {
	raw       []byte
	mediaType types.MediaType
}

func (d document) RawManifest() ([]byte, error)        { return d.raw, nil }
func (d document) MediaType() (types.MediaType, error) { return d.mediaType, nil }

// blob is a config or a layer for the registry client.
type blob struct {
	ctx   context.Context
	image *Image
	desc  ocispec.Descriptor
}

func (b *blob) Digest() (v1.Hash, error)             { return v1.NewHash(b.desc.Digest.String()) }
func (b *blob) DiffID() (v1.Hash, error)             { return b.Digest() }
func (b *blob) Size() (int64, error)                 { return b.desc.Size, nil }
func (b *blob) MediaType() (types.MediaType, error)  { return types.MediaType(b.desc.MediaType), nil }
func (b *blob) Uncompressed() (io.ReadCloser, error) { return b.Compressed() }
func (b *blob) Compressed() (io.ReadCloser, error) {
	r, err := b.image.Blob(b.ctx, b.desc)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(r, 0, r.Size())), nil
}
