package artifact

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tetratelabs/wazero"
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

// standInLen is the length of what stands in for code that is mapped, in bytes.
const standInLen = 1

// player is the planted cache of an engine: it answers the first question with an artefact's code.
type player struct {
	file *os.File
	h    *layout.Header
	// head and tail are the sections of those names.
	head, tail []byte
	// lazy says that code is mapped after wazero has compiled, instead of read.
	lazy bool

	asked, stale bool
	standIn      []byte // if lazy: what wazero took for the code
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
	if c.lazy {
		c.rest = inside.StandIn(c.head, standInLen)
	}
	return c, true, nil
}

func (c *player) Close() error { return nil }

func (c *player) Read(p []byte) (int, error) {
	if c.step == 0 && len(c.rest) == 0 {
		c.step = 1
		c.rest = c.tail
		if c.h.Span(layout.Code).Len > 0 {
			sum, err := c.code(p)
			c.rest = append(binary.LittleEndian.AppendUint32(nil, sum), c.tail...)
			return len(p), err
		}
	}
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// code fills p, wazero's new executable mapping, and returns its checksum.
func (c *player) code(p []byte) (sum uint32, err error) {
	code := c.h.Span(layout.Code)
	want := code.Len
	if c.lazy {
		want = standInLen
	}
	switch {
	case int64(len(p)) != want:
		return 0, fmt.Errorf("code of %d bytes read as %d: %w", want, len(p), inside.ErrInternals)
	case c.lazy:
		c.standIn = p
		return layout.Sum(p), nil
	}
	if _, err := c.file.ReadAt(p, code.Off); err != nil {
		return 0, fmt.Errorf("read code: %w", err)
	}
	return code.Sum, nil
}

// settle is called after wazero has compiled m: it checks that all went as expected and, if lazy, maps the file's code.
func (c *player) settle(m wazero.CompiledModule) error {
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
	// By the Mmap whose Munmap wazero uses, for that one knows its own mappings only.
	mapped, err := unix.Mmap(int(c.file.Fd()), code.Off, int(code.Len), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("load code: map: %w", err)
	}
	unwanted := c.standIn
	if err = inside.Replace(m, c.standIn, mapped); err != nil {
		unwanted, err = mapped, fmt.Errorf("load code: %w", err)
	}
	return errors.Join(err, unix.Munmap(unwanted))
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
