package rewrite

import (
	"fmt"
	"slices"
)

// How a body's checks are placed.
//
// A check costs two loads and a branch; what makes it dear is the call behind it, across which the compiler keeps all of
// a loop's variables in memory. A loop with calls in it has them there anyway, and gets a check at its head. One without
// counts in a local and leaves for an outer loop, which has the check, once the count is used up:
//
//	loop                              ;; label of nobody but the count
//	  block                           ;; in an outermost loop: check, local.set left rounds
//	    local.get left, br_if 0
//	    check, local.set left rounds
//	  end
//	  loop                            ;; the original
//	    left -= 1
//	    block local.get left, br_if 0, br 2 end
//	    ...
//	  end
//	end
//
// A loop that only dispatches checks before its jumps back; see dispatches. Every function checks before it calls another
// for the first time, as late as possible, so that a recursion's simple cases come out before it. rounds is such that no
// more than about a million instructions run between two checks.
const (
	// spell is how many instructions may run between two checks, and mostRounds how many rounds of a loop.
	spell      = 1 << 20
	mostRounds = 1 << 14
	// leaf is how many instructions a function without calls may have and not check; a call is therefore taken for as many.
	leaf = 256
	// bulkWeight and tableWeight are what bulk instructions count for: the time for bulkLimit bytes, and for a whole table.
	bulkWeight  = 4096
	tableWeight = spell / 2
	// mostLoops and mostLoopDepth are how many loops of a function, and how many within each other, are made two. Others
	// have the check itself in them.
	mostLoops     = 10_000
	mostLoopDepth = 64
	// mostOften is how many jumps back a loop that dispatches looks for before it takes its table.
	mostOften = 2
)

// body is the rewriting of one function's body.
type body struct {
	*preempter
	survey
	code, out []byte
	// next is the number of the first local that the function does not have, added counts those it gets. left and size
	// are among them, or none.
	next, added, left, size uint32
	// seen counts the loops so far.
	seen int
	// blocks are those that the present instruction is in, from the function's on.
	blocks []block
	// last is the instruction before.
	last instr
}

// block is a block of the original; made counts the loops that were added around it and the blocks it is in.
type block struct {
	double bool
	made   uint32
}

// body appends the locals and instructions of a rewritten function to b.
func (p *preempter) body(b []byte, function uint32, locals, code []byte) ([]byte, error) {
	n, total := localsOf(locals)
	if uint64(function) >= uint64(len(p.params)) {
		return nil, fmt.Errorf("no type")
	}
	w := &body{preempter: p, code: code, out: p.out[:0], next: p.params[function] + total, left: none, size: none, blocks: []block{{}}}
	var err error
	if w.survey, err = surveyOf(code); err != nil {
		return nil, err
	}
	// Two stay free, for left and size.
	room := max(maxLocals-2, total) - total
	a, err := addressesOf(code, w.next, min(mostKept, room), p.goes)
	if err != nil {
		return nil, err
	}
	w.added = a.most
	first := len(p.origins)
	if err = walk(code, func(in *instr) {
		if in.start == w.checkAt {
			w.out = append(w.out, p.check...)
		}
		if len(w.back) > 0 && in.start == w.back[0] {
			w.out, w.back = append(w.out, p.check...), w.back[1:]
		}
		w.dispatch(in)
		w.origin(in)
		change := a.edits[in.start]
		if change.put != nil {
			w.out = append(w.out, change.put...)
		} else {
			w.instr(in)
		}
		w.out = append(w.out, change.after...)
		w.last = *in
	}); err != nil {
		return nil, err
	}
	if len(w.blocks) != 0 {
		return nil, fmt.Errorf("%d blocks are open at the end", len(w.blocks))
	}
	p.out = w.out // to be used again
	if w.added > 0 {
		r := &reader{b: locals}
		r.u32()
		b = append(appendU32(b, n+1), locals[r.pos:]...)
		b = append(appendU32(b, w.added), 0x7f)
	} else {
		b = append(b, locals...)
	}
	for k := first; k < len(p.origins); k++ {
		p.origins[k].New += uint32(len(b))
	}
	return append(b, w.out...), nil
}

// localsOf counts the entries of a declaration of locals and the locals.
func localsOf(b []byte) (entries, total uint32) {
	r := &reader{b: b}
	entries = r.u32()
	for range entries {
		total += r.u32() // bounded by body's caller
		r.valType()
	}
	return entries, total
}

// origin notes that what comes now, and all since the last note, is from an instruction.
func (w *body) origin(in *instr) {
	if w.track {
		w.origins = append(w.origins, Origin{uint32(len(w.out)), uint32(in.start)})
	}
}

// instr appends one instruction.
func (w *body) instr(in *instr) {
	same := w.code[in.start:in.end]
	switch in.op {
	case opCall, opReturnCall, opRefFunc:
		w.out = appendU32(append(w.out, w.code[in.start:in.indexAt]...), w.funcs.of(in.index))
	case opGlobalGet, opGlobalSet:
		w.out = appendU32(append(w.out, w.code[in.start:in.indexAt]...), w.globals.of(in.index))
	case opBlock, opIf, opTryTable:
		w.open(false)
		w.out = append(w.out, same...)
	case opLoop:
		w.loop(same)
	case opEnd:
		if w.close() {
			w.out = append(w.out, opEnd)
		}
		w.out = append(w.out, opEnd)
	case opBr, opBrIf:
		if len(w.forward) > 0 && in.start == w.forward[0].start {
			w.out = appendU32(append(w.out, opBr), w.depth(w.forward[0].depth))
			w.forward = w.forward[1:]
			return
		}
		w.out = appendU32(append(w.out, w.code[in.start:in.indexAt]...), w.label(in.index))
	case opBrTable:
		w.branchTable(in)
	case opMemoryFill:
		w.guarded(in, helperFill)
	case opMemoryCopy:
		w.guarded(in, helperCopy)
	default:
		w.out = append(w.out, same...)
	}
}

func (w *body) open(double bool) {
	made := w.blocks[len(w.blocks)-1].made
	if double {
		made++
	}
	w.blocks = append(w.blocks, block{double, made})
}

// close ends the innermost block and says whether it is a loop that was made two.
func (w *body) close() bool {
	last := w.blocks[len(w.blocks)-1]
	w.blocks = w.blocks[:len(w.blocks)-1]
	return last.double
}

// label returns where a label is now. Those of a loop made two mean the inner one.
func (w *body) label(l uint32) uint32 {
	top := len(w.blocks) - 1
	if int64(l) > int64(top) {
		return l // not valid, which is not for us to say
	}
	return l + w.blocks[top].made - w.blocks[top-int(l)].made
}

// depth is the label of a block that is so deep in others.
func (w *body) depth(depth int) uint32 { return w.label(uint32(len(w.blocks) - 1 - depth)) }

// dispatch comes before the head of a loop takes its table, which is slow: it goes to the first place, where functions
// begin, and to those that are jumped back to, if the selector says so.
func (w *body) dispatch(in *instr) {
	if w.seen == 0 {
		return
	}
	l := &w.loops[w.seen-1] // nothing but blocks is between a loop and its head
	if l.table == nil || l.other || l.head != in.start {
		return
	}
	values := l.often
	if !slices.Contains(values, 0) {
		values = append(values, 0)
	}
	for _, n := range values {
		t := l.table[min(uint64(n), uint64(len(l.table)-1))]
		if t.start < 0 {
			continue
		}
		w.out = appendU32(append(w.out, opLocalGet), l.selector)
		w.out = appendSigned(append(w.out, opI32Const), int64(int32(n)))
		w.out = appendU32(append(w.out, opI32Eq, opBrIf), w.depth(t.depth))
	}
}

// branchTable copies a br_table, whose labels the reader has checked the number of.
func (w *body) branchTable(in *instr) {
	r := &reader{b: w.code, pos: in.start + 1}
	n := r.u32()
	w.out = appendU32(append(w.out, opBrTable), n)
	for range uint64(n) + 1 {
		w.out = appendU32(w.out, w.label(r.u32()))
	}
}

// loop begins a loop. Those with parameters, which are rare, and those around an exception's handler, whose labels are
// not looked at, have the check in them too.
func (w *body) loop(same []byte) {
	l := &w.loops[w.seen]
	w.seen++
	switch {
	case l.dispatches():
		w.open(false)
		w.out = append(w.out, same...)
		return
	case !w.doubles() || l.calls || w.blocks[len(w.blocks)-1].made >= mostLoopDepth || hasParams(same):
		w.open(false)
		w.out = append(append(w.out, same...), w.check...)
		return
	}
	nested := w.blocks[len(w.blocks)-1].made > 0
	w.open(true)
	if w.left == none {
		w.left = w.local()
	}
	w.out = append(w.out, same...)
	if nested {
		w.out = append(w.out, opBlock, 0x40)
		w.out = append(appendU32(append(w.out, opLocalGet), w.left), opBrIf, 0)
		w.out = append(w.out, w.rare...)
	} else {
		w.out = append(w.out, w.check...)
	}
	w.refill()
	if nested {
		w.out = append(w.out, opEnd)
	}
	w.out = append(w.out, same...)
	w.out = appendU32(append(w.out, opBlock, 0x40, opLocalGet), w.left)
	w.out = appendU32(append(w.out, opI32Const, 1, opI32Sub, opLocalTee), w.left)
	w.out = append(w.out, opBrIf, 0, opBr, 2, opEnd)
}

// refill starts the count of rounds anew.
func (w *body) refill() {
	w.out = appendSigned(append(w.out, opI32Const), w.rounds())
	w.out = appendU32(append(w.out, opLocalSet), w.left)
}

// local adds a local of type i32.
func (w *body) local() uint32 {
	w.added++
	return w.next + w.added - 1
}
