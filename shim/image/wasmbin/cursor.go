package wasmbin

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var errShort = errors.New("ends early")

// cursor reads the binary format's primitives. The first error sticks and every later read gives zero,
// so that callers check once.
type cursor struct {
	buf []byte
	at  int
	err error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
		c.at = len(c.buf)
	}
}

func (c *cursor) left() int { return len(c.buf) - c.at }

func (c *cursor) byte() byte {
	if c.left() < 1 {
		c.fail(errShort)
		return 0
	}
	c.at++
	return c.buf[c.at-1]
}

// uleb reads an unsigned LEB128 number of at most this many bits.
func (c *cursor) uleb(bits uint) uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := c.byte()
		if c.err != nil {
			return 0
		}
		if shift+7 > bits && b&0x7f>>(bits-shift) != 0 || shift >= bits {
			c.fail(fmt.Errorf("number exceeds %d bits", bits))
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
}

func (c *cursor) u32() uint32 { return uint32(c.uleb(32)) }

// skipSigned passes over a signed LEB128 number, as heap types are.
func (c *cursor) skipSigned() {
	for k := 0; c.byte()&0x80 != 0; k++ {
		if k > 5 {
			c.fail(errors.New("number exceeds 33 bits"))
		}
	}
}

// count reads the length of a vector whose entries take at least one byte each.
func (c *cursor) count(limit int) int {
	n := c.u32()
	if int64(n) > int64(c.left()) {
		c.fail(errShort)
		return 0
	}
	if int64(n) > int64(limit) {
		c.fail(fmt.Errorf("%d entries exceed %d", n, limit))
		return 0
	}
	return int(n)
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > c.left() {
		c.fail(errShort)
		return nil
	}
	c.at += n
	return c.buf[c.at-n : c.at]
}

func (c *cursor) name() string {
	b := c.bytes(c.count(len(c.buf)))
	if !utf8.Valid(b) {
		c.fail(errors.New("name is not UTF-8"))
		return ""
	}
	return string(b)
}
