// Package layout is the file format of a compiled module: a header page, then sections.
//
// A file is written once, by the compile worker, sealed by the store and only read and mapped from
// then on. Numbers are little-endian. The parts that the kernel maps (machine code, data image) start
// at multiples of Align, so that an engine's copy of them is the page cache itself.
//
// The header names everything that machine code depends on. A file for another wazero, another CPU or
// another version of this format is ErrForeign; one whose bytes are not those that were written is
// ErrCorrupt. Either way it can only be thrown away and made again.
package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
)

const (
	// Version changes with every change to this format, to the rewriter, or to the options the
	// compiler runs with.
	Version = 6
	// Wazero is the compiler's version. The artefact package tests that go.mod says the same.
	Wazero = "v1.12.0"
	// Align is the largest page size of the architectures served (arm64 kernels use up to 64 KiB).
	Align = 64 << 10
	// HeaderSize is the size of the header page in bytes.
	HeaderSize = 4096
	// MaxSize bounds a whole file in bytes.
	MaxSize = 4 << 30
)

var (
	// ErrForeign says that a file was made by or for something else.
	ErrForeign = errors.New("made by another version or for another machine")
	// ErrCorrupt says that a file is truncated or its bytes have changed.
	ErrCorrupt = errors.New("corrupt")
)

var magic = [8]byte{'h', 'a', 'c', 'h', 'i', 'w', 'c', 0}

// Kind names a section.
type Kind uint32

const (
	// Stub is the module that wazero is given at run time.
	Stub Kind = 1 + iota
	// Head is what wazero reads before the machine code: its own header and the function offsets.
	Head
	// Tail is what wazero reads after the machine code's checksum.
	Tail
	// Code is the machine code; aligned.
	Code
	// Runs says where the pieces of Image lie in linear memory.
	Runs
	// Image is the initial content of linear memory, without its zero pages; aligned.
	Image
	// Symbols are the names and source lines of functions, for stack traces.
	Symbols

	numKinds = int(Symbols)
)

// Span is where a section lies. The zero value is an absent section.
type Span struct {
	Off, Len int64
	// Sum is the CRC-32C of its bytes.
	Sum uint32
}

// Header describes one file.
type Header struct {
	// Key is the store's name for the file; zero until it is sealed.
	Key [32]byte
	// Module is the SHA-256 of the original module.
	Module [32]byte
	// Size is the length of the whole file in bytes.
	Size int64
	// Flags are the writer's; a reader that does not know one must refuse the file.
	Flags uint32

	spans [numKinds + 1]Span
}

// Flags of a header.
const (
	// Preemptible says that the code yields at epoch ticks and imports package preempt's modules.
	Preemptible uint32 = 1 << iota
	// DataImage says that the stub has no active data segments; Runs and Image replace them.
	DataImage

	knownFlags = Preemptible | DataImage
)

// castagnoli is asked for when it is needed: making its tables takes 0.15 ms, and whoever reads no more than a header
// does without.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Sum returns the checksum of sections, which is also wazero's.
func Sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// Span returns where section k lies.
func (h *Header) Span(k Kind) Span { return h.spans[k] }

// marshal layout: magic 8 | version 4 | flags 4 | cpu 8 | size 8 | arch 16 | wazero 32 |
// key 32 | module 32 | spans 24 each | zeros | crc 4
func (h *Header) marshal() []byte {
	b := make([]byte, 0, HeaderSize)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = binary.LittleEndian.AppendUint32(b, h.Flags)
	b = binary.LittleEndian.AppendUint64(b, CPU())
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Size))
	b = append(b, padded(runtime.GOARCH, 16)...)
	b = append(b, padded(Wazero, 32)...)
	b = append(b, h.Key[:]...)
	b = append(b, h.Module[:]...)
	for _, s := range h.spans[1:] {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Off))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Len))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Sum))
	}
	b = b[:HeaderSize-4]
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func padded(s string, n int) []byte {
	b := make([]byte, n)
	copy(b, s)
	return b
}

// ReadHeader reads and checks the header of a file that has size bytes. Its errors are ErrForeign and
// ErrCorrupt, or the reader's.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	var page [HeaderSize]byte
	if _, err := r.ReadAt(page[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%d bytes have no room for a header: %w", size, ErrCorrupt)
		}
		return nil, err
	}
	return parseHeader(page[:], size)
}

func parseHeader(page []byte, size int64) (*Header, error) {
	le := binary.LittleEndian
	if [8]byte(page) != magic {
		return nil, fmt.Errorf("not an artefact: %w", ErrForeign)
	}
	if v := le.Uint32(page[8:]); v != Version {
		return nil, fmt.Errorf("format %d, want %d: %w", v, Version, ErrForeign)
	}
	if le.Uint32(page[HeaderSize-4:]) != crc32.ChecksumIEEE(page[:HeaderSize-4]) {
		return nil, fmt.Errorf("header checksum: %w", ErrCorrupt)
	}
	h := &Header{Flags: le.Uint32(page[12:])}
	if h.Flags&^knownFlags != 0 {
		return nil, fmt.Errorf("flags %#x: %w", h.Flags, ErrForeign)
	}
	if cpu := le.Uint64(page[16:]); cpu != CPU() {
		return nil, fmt.Errorf("CPU features %#x, want %#x: %w", cpu, CPU(), ErrForeign)
	}
	h.Size = int64(le.Uint64(page[24:]))
	if string(page[32:48]) != string(padded(runtime.GOARCH, 16)) || string(page[48:80]) != string(padded(Wazero, 32)) {
		return nil, fmt.Errorf("%s %s: %w", trimmed(page[32:48]), trimmed(page[48:80]), ErrForeign)
	}
	copy(h.Key[:], page[80:])
	copy(h.Module[:], page[112:])
	if h.Size != size {
		return nil, fmt.Errorf("%d bytes, want %d: %w", size, h.Size, ErrCorrupt)
	}
	p := page[144:]
	for k := range h.spans[1:] {
		s := Span{Off: int64(le.Uint64(p)), Len: int64(le.Uint64(p[8:])), Sum: uint32(le.Uint64(p[16:]))}
		p = p[24:]
		if s.Len == 0 && s.Off == 0 {
			continue
		}
		if s.Off < HeaderSize || s.Len < 0 || s.Off > h.Size || s.Len > h.Size-s.Off {
			return nil, fmt.Errorf("section %d lies outside the file: %w", k+1, ErrCorrupt)
		}
		if kind := Kind(k + 1); (kind == Code || kind == Image) && s.Off%Align != 0 {
			return nil, fmt.Errorf("section %d is not aligned: %w", k+1, ErrCorrupt)
		}
		h.spans[k+1] = s
	}
	return h, nil
}

func trimmed(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return fmt.Sprintf("%q", b)
}

// Verify reads every section and compares it with its checksum. It is what makes a file trustworthy
// and costs a pass over all of it (about 10 ms for 40 MB in the page cache).
func (h *Header) Verify(r io.ReaderAt) error {
	buf, table := make([]byte, 256<<10), castagnoli()
	for k, s := range h.spans {
		sum := uint32(0)
		for off := int64(0); off < s.Len; {
			n := min(s.Len-off, int64(len(buf)))
			if _, err := r.ReadAt(buf[:n], s.Off+off); err != nil {
				if errors.Is(err, io.EOF) {
					return fmt.Errorf("section %d is cut short: %w", k, ErrCorrupt)
				}
				return err
			}
			sum = crc32.Update(sum, table, buf[:n])
			off += n
		}
		if sum != s.Sum {
			return fmt.Errorf("section %d checksum: %w", k, ErrCorrupt)
		}
	}
	return nil
}

// Read returns a section's bytes, checked; nil if it is absent or empty.
func (h *Header) Read(r io.ReaderAt, k Kind) ([]byte, error) {
	s := h.spans[k]
	if s.Len == 0 {
		return nil, nil
	}
	b := make([]byte, s.Len)
	if _, err := r.ReadAt(b, s.Off); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("section %d is cut short: %w", k, ErrCorrupt)
		}
		return nil, err
	}
	if Sum(b) != s.Sum {
		return nil, fmt.Errorf("section %d checksum: %w", k, ErrCorrupt)
	}
	return b, nil
}
