package rewrite

import "maps"

// Code is followed as far as it runs straight on: what is on the stack, and which variables have changed since. Where it
// may leave, what is known stays known, but what would come later is not sure to come. Where it may come from elsewhere,
// nothing is known.

// operand is a value on the stack; made says if anything is known of it.
type operand struct {
	base
	made bool
	// at is the instruction that left the base there, and span the one it is in.
	at, span int
	// sum are the instructions that added offset to it, if any.
	sum    []int
	offset uint64
}

// known is what is known at a place from the code straight before it.
type known struct {
	stack    []operand
	versions map[uint32]uint32
	wrapped  map[base]*kept
	reaches  map[base]*reach
}

func (a *addresses) push(o operand) { a.stack = append(a.stack, o) }

func (a *addresses) pop() (o operand) {
	if n := len(a.stack) - 1; n >= 0 {
		o, a.stack = a.stack[n], a.stack[:n]
	}
	return o
}

// versionOf numbers a variable's present value.
func (a *addresses) versionOf(local uint32) uint32 {
	if _, ok := a.versions[local]; !ok {
		a.assigned(local)
	}
	return a.versions[local]
}

func (a *addresses) assigned(local uint32) {
	a.version++
	a.versions[local] = a.version
}

// variable is an operand that was just read from a variable, or written to it.
func (a *addresses) variable(local uint32, at int) operand {
	return operand{base: base{local: local, version: a.versionOf(local)}, made: true, at: at, span: a.span}
}

// number is an instruction's first immediate.
func (a *addresses) number(in *instr) int64 {
	return (&reader{b: a.code, pos: in.start + 1}).signed(10)
}

func (a *addresses) local(in *instr) uint32 { return (&reader{b: a.code, pos: in.start + 1}).u32() }

func (a *addresses) instr(in *instr) {
	if a.left && in.op != opEnd {
		a.ifs, a.left = nil, false // code that is never reached, of which nothing is to be known
	}
	switch op := in.op; op {
	case opLocalGet:
		a.push(a.variable(a.local(in), in.start))
	case opLocalTee:
		a.pop()
		a.beforeCall(in)
		a.assigned(a.local(in))
		a.push(a.variable(a.local(in), in.start))
	case opLocalSet:
		a.pop()
		a.assigned(a.local(in))
	case opI32WrapI64:
		a.push(a.wrap(in, a.pop()))
	case opI32Eqz:
		a.negate(in)
	case opIf:
		a.pop()
		a.fork()
		if len(a.ifs) == mostIfs {
			a.ifs = nil
		}
		if len(a.versions)+len(a.wrapped)+len(a.stack) > mostKnown {
			a.forget()
		}
		a.ifs = append(a.ifs, known{append([]operand(nil), a.stack...), maps.Clone(a.versions), maps.Clone(a.wrapped), maps.Clone(a.reaches)})
	case opEnd:
		a.end()
	case opBr, opReturn, opUnreachable:
		a.fork()
		if op == opBr && uint64(in.index) < uint64(len(a.ifs)) {
			a.ifs = nil // a way to its end
		}
		a.left = len(a.ifs) > 0
		a.stack = nil
	case opBlock, opBrIf:
		if op == opBrIf {
			a.pop()
		}
		a.ifs = nil
		a.fork()
	case opElse, opLoop, opTryTable, opBrTable:
		a.ifs = nil
		a.forget()
	default:
		a.simple(in)
	}
}

// simple is an instruction of which only matters what it takes and leaves.
func (a *addresses) simple(in *instr) {
	pops, pushes, traps, ok := effect(in.op)
	switch {
	case !ok:
		a.forget()
		return
	case traps:
		a.fork()
	}
	if isStore(in.op) {
		a.pop()
		pops--
	}
	if isLoad(in.op) || isStore(in.op) {
		a.access(in, a.pop())
		pops--
	}
	for range pops {
		a.pop()
	}
	for range pushes {
		a.push(operand{})
	}
}

// end is the end of a block. Behind an `if` that can only be left by a jump is known what was before it.
func (a *addresses) end() {
	n := len(a.ifs) - 1
	if !a.left {
		a.ifs = nil
		a.forget()
		return
	}
	for b := range a.reaches {
		if a.ifs[n].reaches[b] != a.reaches[b] {
			a.settle(b)
		}
	}
	a.span++
	reaches := a.reaches
	a.known, a.ifs, a.left = a.ifs[n], a.ifs[:n], false
	a.reaches = reaches // those that calls have not ended
}

// forget is for places where control may come from elsewhere.
func (a *addresses) forget() {
	for b := range a.reaches {
		a.settle(b)
	}
	a.span++
	a.known = known{versions: map[uint32]uint32{}, wrapped: map[base]*kept{}, reaches: map[base]*reach{}}
	if len(a.ifs) == 0 {
		a.inUse = 0
	}
}

// fork is for places where control may leave: what comes later may never come. Go's stack is there in any case.
func (a *addresses) fork() {
	much := len(a.reaches) > mostKnown
	for b := range a.reaches {
		if much || !a.isPointer(b) {
			a.settle(b)
		}
	}
	if much {
		a.reaches = map[base]*reach{} // the old one stays large
	}
	a.span++
}
