package rewrite

import (
	"encoding/binary"
	"fmt"
)

// reader walks over untrusted bytes. After its first error it stays where it is and returns zeros, so
// that callers check err once per item; loops over counts must check it.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: %s", r.pos, fmt.Sprintf(format, args...))
	}
}

func (r *reader) ok() bool   { return r.err == nil }
func (r *reader) rest() int  { return len(r.b) - r.pos }
func (r *reader) more() bool { return r.err == nil && r.pos < len(r.b) }

func (r *reader) byte() byte {
	if r.err != nil || r.pos >= len(r.b) {
		r.fail("truncated")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// bytes returns the next n bytes, not copied.
func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(r.rest()) {
		r.fail("truncated")
		return nil
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail("number exceeds 32 bits")
	return 0
}

// signed reads a signed LEB128 number of at most max bytes. Whether its unused bits are right is left to
// the validator.
func (r *reader) signed(max int) int64 {
	var v int64
	for i := range max {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c&0x40 != 0 && 7*(i+1) < 64 {
				v |= -1 << (7 * (i + 1))
			}
			return v
		}
	}
	r.fail("number exceeds %d bytes", max)
	return 0
}

// count reads the length of a vector whose items have at least size bytes each.
func (r *reader) count(what string, limit uint32, size int) uint32 {
	n := r.u32()
	switch {
	case r.err != nil:
		return 0
	case n > limit:
		r.fail("%d %s exceed %d", n, what, limit)
	case uint64(n)*uint64(size) > uint64(r.rest()):
		r.fail("%d %s do not fit %d bytes", n, what, r.rest())
	default:
		return n
	}
	return 0
}

func (r *reader) name() []byte { return r.bytes(uint64(r.u32())) }

// valType skips a value type: one byte, or a reference to a heap type.
func (r *reader) valType() {
	if c := r.byte(); c == 0x63 || c == 0x64 {
		r.signed(5)
	}
}

// limits reads the limits of a table or memory.
func (r *reader) limits() (minimum uint32) {
	flag := r.byte()
	minimum = r.u32()
	if flag > 3 {
		r.fail("limits flag %#x", flag)
	}
	if flag&1 != 0 {
		r.u32()
	}
	return minimum
}

// table reads a table type, with its initializer if it has one.
func (r *reader) table() (minimum uint32) { return r.tableExpr(nil) }

// tableExpr calls f for the instructions of the initializer.
func (r *reader) tableExpr(f func(op byte, start, end int)) (minimum uint32) {
	init := false
	if r.more() && r.b[r.pos] == 0x40 {
		r.bytes(2)
		init = true
	}
	r.valType()
	minimum = r.limits()
	if init {
		r.constExpr(f)
	}
	return minimum
}

// constExpr skips a constant expression, calling f for every instruction but the end.
func (r *reader) constExpr(f func(op byte, start, end int)) {
	for r.ok() {
		start := r.pos
		op := r.byte()
		switch op {
		case 0x0b:
			return
		case 0x41, 0xd0:
			r.signed(5)
		case 0x42:
			r.signed(10)
		case 0x23, 0xd2:
			r.u32()
		case 0x43:
			r.bytes(4)
		case 0x44:
			r.bytes(8)
		case 0xfd:
			if r.u32() != 12 {
				r.fail("vector instruction in a constant expression")
			}
			r.bytes(16)
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e:
		default:
			r.fail("opcode %#x in a constant expression", op)
		}
		if f != nil && r.ok() {
			f(op, start, r.pos)
		}
	}
}

func appendU32(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
