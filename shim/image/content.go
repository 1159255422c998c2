package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/image/imagepb"
	"github.com/hachi-run/hachi/shim/image/layout"
)

// store reads content: from containerd's directory where that is known, else through its service.
type store struct {
	*Source
	dir string
}

// document reads a small blob and proves its digest.
func (s *store) document(ctx context.Context, d layout.Descriptor) ([]byte, error) {
	if d.Size > layout.MaxDocument {
		return nil, fmt.Errorf("content %s: %d bytes exceed %d: %w", d.Digest, d.Size, layout.MaxDocument, errdefs.ErrInvalidArgument)
	}
	var raw []byte
	f, err := s.file(d)
	switch {
	case err == nil:
		raw = make([]byte, d.Size)
		_, err = io.ReadFull(f, raw)
		f.Close()
	case errors.Is(err, errdefs.ErrNotFound):
		var b buffer
		err = s.receive(ctx, d, &b)
		raw = b
	}
	if err != nil {
		return nil, fmt.Errorf("content %s: %w", d.Digest, err)
	}
	if err := layout.Verify(buffer(raw), d.Size, d.Digest); err != nil {
		return nil, fmt.Errorf("content %s: %w", d.Digest, err)
	}
	return raw, nil
}

// module opens a blob that may be large.
func (s *store) module(d layout.Descriptor) (*os.File, error) {
	f, err := s.file(d)
	if err == nil || !errors.Is(err, errdefs.ErrNotFound) {
		return f, err
	}
	return sealed("hachi-module", func(to *os.File) error {
		if err := s.receive(context.Background(), d, to); err != nil {
			return fmt.Errorf("content %s: %w", d.Digest, err)
		}
		return layout.Verify(to, d.Size, d.Digest)
	})
}

// file opens a blob in the content directory. NotFound also means that the directory is unknown.
func (s *store) file(d layout.Descriptor) (*os.File, error) {
	algorithm, sum, err := layout.ParseDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	if s.dir == "" {
		return nil, errdefs.ErrNotFound
	}
	name := path.Join(s.dir, "blobs", algorithm, sum)
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		// Whatever keeps us from the directory, the service may know more.
		return nil, fmt.Errorf("%s: %w: %w", name, err, errdefs.ErrNotFound)
	}
	f := os.NewFile(uintptr(fd), name)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size != d.Size {
		f.Close()
		return nil, layout.Damaged("%s has %d bytes instead of %d", name, stat.Size, d.Size)
	}
	return f, nil
}

// receive copies a blob from containerd's content service, at most its size and one byte.
func (s *store) receive(ctx context.Context, d layout.Descriptor, to io.WriterAt) error {
	err := s.ask(ctx, func(ctx context.Context) error {
		offset := int64(0)
		return s.call(ctx, contentRead, &imagepb.ReadContentRequest{Digest: d.Digest}, func(message []byte) error {
			var reply imagepb.ReadContentResponse
			if err := understood(reply.UnmarshalVTUnsafe(message)); err != nil { // which copies no data
				return err
			}
			data := reply.Data
			if offset+int64(len(data)) > d.Size {
				return layout.Damaged("has more than %d bytes", d.Size)
			}
			if _, err := to.WriteAt(data, offset); err != nil {
				return err
			}
			offset += int64(len(data))
			return nil
		})
	})
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%w (the image is incomplete: pull or import it again; an import needs --all-platforms)", err)
	}
	return err
}

// buffer is a growing byte slice with the two interfaces that files have here.
type buffer []byte

func (b *buffer) WriteAt(p []byte, offset int64) (int, error) {
	*b = append((*b)[:offset], p...)
	return len(p), nil
}

func (b buffer) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
