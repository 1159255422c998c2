package rewrite

import (
	"errors"
	"fmt"
)

// maxNesting bounds blocks within blocks. wazero's time grows with its square: 20 s at this depth. Go nests as many
// blocks as a function has calls, a few thousand in the biggest.
const maxNesting = 50_000

var errNesting = fmt.Errorf("%w: blocks nest deeper than %d (split the function)", ErrBadModule, maxNesting)

// Opcodes that the rewriter looks for. Prefixed ones are prefix<<8 | number.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opReturnCall   = 0x12
	opReturnCallIn = 0x13
	opTryTable     = 0x1f
	opDrop         = 0x1a
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opI32Load      = 0x28
	opI32Load8U    = 0x2d
	opI32Store     = 0x36
	opMemorySize   = 0x3f
	opI32Const     = 0x41
	opI64Const     = 0x42
	opI32Eqz       = 0x45
	opI32Eq        = 0x46
	opI32GtU       = 0x4b
	opI32LeU       = 0x4d
	opI64GtU       = 0x56
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Add       = 0x7c
	opI64Shl       = 0x86
	opI32WrapI64   = 0xa7
	opI64ExtendU   = 0xad
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opMemoryInit   = opMisc<<8 | 8
	opDataDrop     = opMisc<<8 | 9
	opMemoryCopy   = opMisc<<8 | 10
	opMemoryFill   = opMisc<<8 | 11
	opTableInit    = opMisc<<8 | 12
	opTableCopy    = opMisc<<8 | 14
	opTableFill    = opMisc<<8 | 17
)

// instr is one instruction of a function body.
type instr struct {
	op         uint32
	start, end int
	// index is the instruction's first index immediate, which lies at [indexAt, indexEnd).
	index             uint32
	indexAt, indexEnd int
}

// walk decodes the instructions of a body up to and with its last end, calling f for each. What it does not know is
// an error.
func walk(code []byte, f func(*instr)) error {
	r := &reader{b: code}
	depth := 1
	var in instr
	for depth > 0 {
		in = instr{start: r.pos}
		in.op = uint32(r.byte())
		switch in.op {
		case opBlock, opLoop, opIf, opTryTable:
			if depth++; depth > maxNesting {
				return errNesting
			}
		case opEnd:
			depth--
		}
		r.immediates(&in)
		if !r.ok() {
			return r.err
		}
		in.end = r.pos
		f(&in)
	}
	if r.rest() > 0 {
		r.fail("%d bytes after the body's end", r.rest())
	}
	return r.err
}

func (r *reader) immediates(in *instr) {
	op := in.op
	switch {
	case op == opBlock || op == opLoop || op == opIf:
		r.blockType()
	case op == opTryTable:
		r.blockType()
		r.catches()
	case op <= 0x01, op == opElse, op == 0x0a, op == opEnd, op == opReturn, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	case op == 0x08:
		r.u32()
	case op == opBr || op == opBrIf:
		r.index(in)
	case op == opBrTable:
		n := r.count("branch targets", maxBody, 1)
		for i := uint32(0); i <= n && r.ok(); i++ {
			r.u32()
		}
	case op == opCall, op == opReturnCall, op == opGlobalGet, op == opGlobalSet, op == opRefFunc:
		r.index(in)
	case op == opCallIndirect || op == opReturnCallIn:
		r.u32()
		r.u32()
	case op == 0x1c:
		n := r.count("select types", maxArity, 1)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.valType()
		}
	case op >= 0x20 && op <= 0x26:
		r.u32()
	case op >= 0x28 && op <= 0x3e:
		r.memarg()
	case op == 0x3f || op == 0x40:
		r.u32()
	case op == 0x41:
		r.signed(5)
	case op == 0x42:
		r.signed(10)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == 0xd0:
		r.signed(5)
	case op == 0xfc:
		r.misc(in)
	case op == 0xfd:
		r.simd(in)
	case op == 0xfe:
		r.atomic(in)
	default:
		r.fail("opcode %#x", op)
	}
}

func (r *reader) blockType() {
	if c := r.signed(5); c == 0x63-0x80 || c == 0x64-0x80 {
		r.signed(5)
	}
}

// catches reads the clauses of a try_table: kinds 0 and 1 name a tag and a label, 2 and 3 catch all and name a label.
func (r *reader) catches() {
	n := r.count("catch clauses", maxBody, 2)
	for i := uint32(0); i < n && r.ok(); i++ {
		switch kind := r.byte(); {
		case kind > 3:
			r.fail("catch clause of kind %d", kind)
		case kind <= 1:
			r.u32()
		}
		r.u32()
	}
}

func (r *reader) index(in *instr) {
	in.indexAt = r.pos
	in.index = r.u32()
	in.indexEnd = r.pos
}

func (r *reader) memarg() {
	if align := r.u32(); align >= 32 {
		r.fail("alignment %#x", align)
	}
	r.u32()
}

func (r *reader) misc(in *instr) {
	n := r.u32()
	in.op = 0xfc<<8 | n
	switch {
	case n <= 7:
	case n == 8 || n == 10 || n == 12 || n == 14:
		r.index(in)
		r.u32()
	case n <= 17:
		r.index(in)
	default:
		r.fail("opcode 0xfc %d", n)
	}
}

func (r *reader) simd(in *instr) {
	n := r.u32()
	in.op = 0xfd<<8 | n
	switch {
	case n <= 11 || n == 92 || n == 93:
		r.memarg()
	case n == 12 || n == 13:
		r.bytes(16)
	case n >= 21 && n <= 34:
		r.byte()
	case n >= 84 && n <= 91:
		r.memarg()
		r.byte()
	case n > 255:
		r.fail("opcode 0xfd %d", n)
	}
}

func (r *reader) atomic(in *instr) {
	n := r.u32()
	in.op = 0xfe<<8 | n
	switch {
	case n == 3:
		r.byte()
	case n <= 2 || (n >= 0x10 && n <= 0x4e):
		r.memarg()
	default:
		r.fail("opcode 0xfe %d", n)
	}
}

// eachBody calls f with the instructions of every function body, until it fails.
func (m *Module) eachBody(f func(i uint32, locals, code []byte) error) error {
	s := m.section(secCode)
	if s == nil {
		return nil
	}
	r := &reader{b: s.Body}
	n := r.u32()
	for i := uint32(0); i < n && r.ok(); i++ {
		locals, code := r.body()
		if r.ok() {
			if err := f(i, locals, code); err != nil {
				return err
			}
		}
	}
	return r.err
}

// nesting returns an error if blocks nest too deeply. All else that is wrong with bodies the compiler finds.
func (m *Module) nesting() error {
	return m.eachBody(func(_ uint32, _, code []byte) error {
		if err := walk(code, func(*instr) {}); errors.Is(err, errNesting) {
			return err
		}
		return nil
	})
}

// namesData says whether any instruction names a data segment, or may.
func (m *Module) namesData() bool {
	found := false
	err := m.eachBody(func(_ uint32, _, code []byte) error {
		return walk(code, func(in *instr) {
			found = found || in.op == opMemoryInit || in.op == opDataDrop
		})
	})
	return found || err != nil
}
