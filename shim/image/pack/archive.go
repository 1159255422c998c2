package pack

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hachi-run/hachi/shim/image/layout"
)

// annotationName is where containerd's import finds an image's full name.
const annotationName = "io.containerd.image.name"

// WriteArchive writes the image as an OCI archive (a tar file), for `ctr image import`. Equal images
// give equal bytes.
func (i *Image) WriteArchive(ctx context.Context, out io.Writer) error {
	target := i.Target
	target.Annotations = map[string]string{annotationName: i.Name, ocispec.AnnotationRefName: tagOf(i.Name)}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{target},
	})
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	add := func(name string, size int64, content io.Reader) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	}
	head := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	err = errors.Join(
		add(ocispec.ImageLayoutFile, int64(len(head)), strings.NewReader(string(head))),
		add(ocispec.ImageIndexFile, int64(len(index)), strings.NewReader(string(index))),
	)
	if err == nil {
		err = i.walk(ctx, func(d ocispec.Descriptor, _ []byte) error {
			r, err := i.Blob(ctx, d)
			if err != nil {
				return err
			}
			return add(path.Join(ocispec.ImageBlobsDir, string(d.Digest.Algorithm()), d.Digest.Encoded()), d.Size, r)
		})
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("write archive of %s: %w", i.Name, err)
	}
	return nil
}

// Save writes the archive to a file, which appears whole or not at all.
func (i *Image) Save(ctx context.Context, file string) error {
	f, err := os.CreateTemp(path.Dir(file), "."+path.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write archive %s: %w", file, err)
	}
	defer os.Remove(f.Name())
	err = i.WriteArchive(ctx, f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	return err
}

// OpenArchive reads an OCI archive. Where it holds several images, name says which; else name may be
// empty. Close the result.
func OpenArchive(file, name string) (*Image, error) {
	i, err := openArchive(file, name)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	return i, nil
}

func openArchive(file, name string) (*Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	i := &Image{blobs: map[digest.Digest]*io.SectionReader{}, files: []*os.File{f}}
	raw, err := i.scan(f)
	if err == nil {
		err = i.choose(raw, name)
	}
	if err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

// maxEntries bounds what a hostile archive makes us remember.
const maxEntries = 100_000

// scan notes where each blob lies and returns index.json.
func (i *Image) scan(f *os.File) (index []byte, err error) {
	r := tar.NewReader(f)
	for count := 0; ; count++ {
		header, err := r.Next()
		if errors.Is(err, io.EOF) && count > 0 {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w (want an uncompressed OCI archive, as hachi build, docker buildx --output type=oci and ctr image export write)", err)
		}
		if count > maxEntries {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		// The reader stands at the content's first byte; archives are read in place.
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean(header.Name)
		if name == ocispec.ImageIndexFile {
			if index, err = io.ReadAll(io.LimitReader(r, layout.MaxDocument+1)); err != nil {
				return nil, err
			}
			continue
		}
		parts := strings.Split(name, "/")
		if len(parts) != 3 || parts[0] != ocispec.ImageBlobsDir {
			continue
		}
		d := parts[1] + ":" + parts[2]
		if _, _, err := layout.ParseDigest(d); err != nil {
			continue
		}
		i.blobs[digest.Digest(d)] = io.NewSectionReader(f, at, header.Size)
	}
	if index == nil {
		return nil, errors.New("no index.json (want an OCI archive; docker save writes one since Docker 25)")
	}
	return index, nil
}

func (i *Image) choose(raw []byte, name string) error {
	index, err := parse[ocispec.Index](raw, layout.ParseIndex)
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	var names []string
	for _, d := range index.Manifests {
		full := d.Annotations[annotationName]
		names = append(names, full)
		if len(index.Manifests) == 1 || name != "" && full == name {
			i.Target, i.Name = d, full
			i.Target.Annotations = nil
			return nil
		}
	}
	if len(names) == 0 {
		return errors.New("holds no image")
	}
	return fmt.Errorf("holds several images: %.400s (say which)", strings.Join(names, ", "))
}
