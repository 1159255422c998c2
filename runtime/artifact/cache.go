package artifact

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

// recorder is the planted cache of the compile worker: it keeps what wazero would have stored.
type recorder struct{ entry []byte }

func (c *recorder) Get([32]byte) (io.ReadCloser, bool, error) { return nil, false, nil }
func (c *recorder) Delete([32]byte) error                     { return nil }
func (c *recorder) Add(_ [32]byte, r io.Reader) error {
	// wazero hands over a reader of a buffer made for it; taking the buffer itself saves a copy of all code.
	if from, ok := r.(io.WriterTo); ok {
		_, err := from.WriteTo(c)
		return err
	}
	var err error
	c.entry, err = io.ReadAll(r)
	return err
}

// Write takes what a bytes.Reader gives in one piece.
func (c *recorder) Write(p []byte) (int, error) {
	if c.entry == nil {
		c.entry = p
	} else {
		c.entry = append(c.entry[:len(c.entry):len(c.entry)], p...)
	}
	return len(p), nil
}

// player is the planted cache of an engine: it answers the first question with an artefact's code.
type player struct {
	file *os.File
	h    *layout.Header
	// head and tail are the sections of those names.
	head, tail []byte
	// lazy says that code is mapped after wazero has summed zeros in its place, instead of read.
	lazy bool

	asked, stale bool
	region       []byte
	rest         []byte
	step         int
}

func (c *player) Add([32]byte, io.Reader) error { return nil }
func (c *player) Delete([32]byte) error {
	c.stale = true
	return inside.ErrInternals
}

func (c *player) Get([32]byte) (io.ReadCloser, bool, error) {
	if c.asked {
		return nil, false, nil
	}
	c.asked = true
	c.rest = c.head
	return c, true, nil
}

func (c *player) Close() error { return nil }

func (c *player) Read(p []byte) (int, error) {
	if c.step == 0 && len(c.rest) == 0 {
		c.step = 1
		code := c.h.Span(layout.Code)
		c.rest = c.tail
		if code.Len > 0 {
			if int64(len(p)) != code.Len {
				return 0, fmt.Errorf("code of %d bytes read as %d: %w", code.Len, len(p), inside.ErrInternals)
			}
			sum := code.Sum
			if c.lazy {
				c.region = p
				sum = c.h.ZeroSum
				// Best effort: one huge zero page is summed faster than as many small ones.
				_ = unix.Madvise(p[:len(p):len(p)], unix.MADV_HUGEPAGE)
			} else if _, err := c.file.ReadAt(p, code.Off); err != nil {
				return 0, fmt.Errorf("read code: %w", err)
			}
			c.rest = append(binary.LittleEndian.AppendUint32(nil, sum), c.tail...)
			return len(p), nil
		}
	}
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// settle is called after wazero has compiled: it checks that all went as expected and, if lazy, puts
// the file's code where wazero saw zeros.
func (c *player) settle() error {
	code := c.h.Span(layout.Code)
	switch {
	case c.stale:
		return fmt.Errorf("load code: made by another wazero: %w", layout.ErrForeign)
	case code.Len == 0:
		return nil // wazero may not even ask for a module without functions
	case !c.asked || c.step != 1 || len(c.rest) != 0:
		return fmt.Errorf("load code: entry not read to its end: %w", inside.ErrInternals)
	case !c.lazy:
		return nil
	}
	_, err := unix.MmapPtr(int(c.file.Fd()), code.Off, unsafe.Pointer(&c.region[0]), uintptr(code.Len),
		unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("load code: map: %w", err)
	}
	return nil
}

// mappable says whether the kernel lets f's pages be executed (they cannot on a noexec mount).
func mappable(f *os.File, off int64) bool {
	b, err := unix.Mmap(int(f.Fd()), off, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return false
	}
	_ = unix.Munmap(b)
	return true
}
