package layout

import (
	"fmt"
	"io"
)

// Writer writes one file, section by section. Nothing in it is valid until Finish.
type Writer struct {
	w   io.WriterAt
	h   Header
	end int64
}

// NewWriter starts a file for the module with the given SHA-256.
func NewWriter(w io.WriterAt, module [32]byte) *Writer {
	return &Writer{w: w, h: Header{Module: module}, end: HeaderSize}
}

// Add writes section k, which must not have been added before.
func (w *Writer) Add(k Kind, b []byte) error {
	if w.h.spans[k].Off != 0 {
		return fmt.Errorf("write artefact: section %d twice", k)
	}
	align := int64(16)
	if k == Code || k == Image {
		align = Align
	}
	off := (w.end + align - 1) &^ (align - 1)
	if off+int64(len(b)) > MaxSize {
		return fmt.Errorf("write artefact: more than %d bytes", int64(MaxSize))
	}
	if _, err := w.w.WriteAt(b, off); err != nil {
		return fmt.Errorf("write artefact: %w", err)
	}
	w.h.spans[k] = Span{Off: off, Len: int64(len(b)), Sum: Sum(b)}
	w.end = off + int64(len(b))
	return nil
}

// Finish pads the file to whole pages, so that no mapping of its last section faults, and writes the
// header.
func (w *Writer) Finish(flags uint32) error {
	end := (w.end + Align - 1) &^ (Align - 1)
	if end > w.end {
		if _, err := w.w.WriteAt([]byte{0}, end-1); err != nil {
			return fmt.Errorf("write artefact: %w", err)
		}
	}
	w.h.Size, w.h.Flags = end, flags
	if _, err := w.w.WriteAt(w.h.marshal(), 0); err != nil {
		return fmt.Errorf("write artefact: %w", err)
	}
	return nil
}

// Seal writes the store's key into the header h of file w.
func (h *Header) Seal(w io.WriterAt, key [32]byte) error {
	h.Key = key
	if _, err := w.WriteAt(h.marshal(), 0); err != nil {
		return fmt.Errorf("seal artefact: %w", err)
	}
	return nil
}
