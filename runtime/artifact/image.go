package artifact

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
)

// image is an artefact's initial content of linear memory.
type image struct {
	file *os.File
	at   layout.Span
	runs []rewrite.Run
}

// openImage returns nil if the artefact has no image.
func openImage(f *os.File, h *layout.Header) (*image, error) {
	if h.Flags&layout.DataImage == 0 {
		return nil, nil
	}
	b, err := h.Read(f, layout.Runs)
	if err != nil {
		return nil, err
	}
	img := &image{file: f, at: h.Span(layout.Image)}
	if img.runs, err = rewrite.UnmarshalRuns(b, img.at.Len); err != nil {
		return nil, fmt.Errorf("%w: %w", err, layout.ErrCorrupt)
	}
	return img, nil
}

// fill maps the image into a new memory: pages that the guest only reads are the page cache's, shared with all
// its other instances on the machine.
func (img *image) fill(mem []byte) error {
	for _, r := range img.runs {
		if r.Offset+r.Len > uint64(len(mem)) {
			return fmt.Errorf("image ends at %d, memory at %d: %w", r.Offset+r.Len, len(mem), layout.ErrCorrupt)
		}
		dst := mem[r.Offset : r.Offset+r.Len]
		off := img.at.Off + int64(r.Pos)
		_, err := unix.MmapPtr(int(img.file.Fd()), off, unsafe.Pointer(&dst[0]), uintptr(len(dst)),
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
		if err == nil {
			continue
		}
		// A file system that cannot be mapped, or too many mappings: a copy does as well.
		if _, err := img.file.ReadAt(dst, off); err != nil {
			return fmt.Errorf("read image: %w", err)
		}
	}
	return nil
}

// inline puts the image back into a stub, as data segments.
func (img *image) inline(stub []byte) ([]byte, error) {
	b := make([]byte, img.at.Len)
	if _, err := img.file.ReadAt(b, img.at.Off); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return rewrite.Inline(stub, img.runs, b)
}
