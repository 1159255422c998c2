package rewrite

// bulkLimit is how many bytes a guest fills or copies in one instruction. What is more goes through a helper that does it
// piece by piece, with a check before each: a gigabyte of fresh memory takes about a second.
const bulkLimit = 64 << 10

// Helpers are functions that the rewriter adds behind the module's own, all of type (i32 i32 i32) -> ().
const (
	helperFill = iota
	helperCopy
)

const helperType = "\x60\x03\x7f\x7f\x7f\x00"

// helpers make the bodies, without locals, of the helpers.
var helpers = [...]func(p *preempter) []byte{helperFill: (*preempter).fillHelper, helperCopy: (*preempter).copyHelper}

// helperType is the index of the helpers' type, which stands behind that of yield.
func (p *preempter) helperType() uint32 { return p.m.Types + 1 }

// helper is the index of a helper function.
func (p *preempter) helper(number uint32) uint32 {
	return p.funcs.of(p.m.Imported[kindFunc]+p.m.Funcs) + number
}

// guarded replaces a fill or a copy, whose last operand is the number of bytes, unless it is a constant that is small:
//
//	local.tee size, local.get size, i32.const limit, i32.le_u
//	if the instruction else call helper end
func (w *body) guarded(in *instr, helper uint32) {
	same := w.code[in.start:in.end]
	if w.last.op == opI32Const {
		if n := (&reader{b: w.code, pos: w.last.start + 1}).signed(5); n >= 0 && n <= bulkLimit {
			w.out = append(w.out, same...)
			return
		}
	}
	w.bulk = true
	if w.size == none {
		w.size = w.local()
	}
	w.out = appendU32(append(w.out, opLocalTee), w.size)
	w.out = appendU32(append(w.out, opLocalGet), w.size)
	w.out = append(appendSigned(append(w.out, opI32Const), bulkLimit), opI32LeU)
	w.out = appendSigned(append(w.out, opIf), int64(w.helperType()))
	w.out = append(append(w.out, same...), opElse, opCall)
	w.out = appendU32(w.out, w.helper(helper))
	w.origin(in)
	w.out = append(w.out, opEnd)
}

// Parameters of the helpers. The second is a byte to fill with, or where to copy from.
const (
	toward = iota
	second
	size
)

// code writes instructions that are all one byte and one immediate, or none.
type code []byte

func (c *code) op(ops ...byte) { *c = append(*c, ops...) }
func (c *code) get(locals ...byte) {
	for _, l := range locals {
		c.op(opLocalGet, l)
	}
}

// limit pushes bulkLimit.
func (c *code) limit() { *c = appendSigned(append(*c, opI32Const), bulkLimit) }

// move adds bulkLimit to a local, or takes it away.
func (c *code) move(local, op byte) {
	c.get(local)
	c.limit()
	c.op(op, opLocalSet, local)
}

// more goes on with the innermost loop while there is more than one piece left.
func (c *code) more() {
	c.get(size)
	c.limit()
	c.op(opI32GtU, opBrIf, 0)
}

// trapBeyond executes an instruction on all of the operands, which then traps, if size bytes from local are not all in
// memory. WebAssembly wants it to trap before it writes anything.
func (c *code) trapBeyond(local byte, instruction ...byte) {
	c.op(opLocalGet, local, opI64ExtendU, opLocalGet, size, opI64ExtendU, opI64Add)
	c.op(opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64GtU)
	c.op(opIf, 0x40)
	c.get(toward, second, size)
	c.op(instruction...)
	c.op(opEnd)
}

func (p *preempter) fillHelper() []byte {
	fill := []byte{opMisc, opMemoryFill & 0xff, 0}
	var c code
	c.trapBeyond(toward, fill...)
	c.op(opLoop, 0x40)
	c.op(p.check...)
	c.get(toward, second)
	c.limit()
	c.op(fill...)
	c.move(toward, opI32Add)
	c.move(size, opI32Sub)
	c.more()
	c.op(opEnd)
	c.get(toward, second, size)
	c.op(fill...)
	c.op(opEnd)
	return c
}

// copyHelper copies from the end that is not written before it is read.
func (p *preempter) copyHelper() []byte {
	cp := []byte{opMisc, opMemoryCopy & 0xff, 0, 0}
	var c code
	c.trapBeyond(toward, cp...)
	c.trapBeyond(second, cp...)
	c.get(toward, second)
	c.op(opI32LeU, opIf, 0x40)

	c.op(opLoop, 0x40)
	c.op(p.check...)
	c.get(toward, second)
	c.limit()
	c.op(cp...)
	c.move(toward, opI32Add)
	c.move(second, opI32Add)
	c.move(size, opI32Sub)
	c.more()
	c.op(opEnd)

	c.op(opElse)

	c.op(opLoop, 0x40)
	c.op(p.check...)
	c.move(size, opI32Sub)
	for _, l := range []byte{toward, second} {
		c.get(l, size)
		c.op(opI32Add)
	}
	c.limit()
	c.op(cp...)
	c.more()
	c.op(opEnd)

	c.op(opEnd)
	c.get(toward, second, size)
	c.op(cp...)
	c.op(opEnd)
	return c
}
