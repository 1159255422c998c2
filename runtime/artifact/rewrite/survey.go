package rewrite

import "slices"

// survey is what has to be known of a body before it is rewritten.
type survey struct {
	weight uint64
	loops  []loopSurvey // in order
	calls  bool
	tries  bool
	// checkAt is the instruction before which the function has a check of its own; -1 if it needs none.
	checkAt int
	// back are the jumps that need a check before them, in order.
	back []int
	// forward are the jumps that need not go through the head of their loop, in order.
	forward []shortcut
}

// shortcut is a jump that may go to the end of a block, which is so deep in others, instead of to a loop's head.
type shortcut struct{ start, depth int }

// loopSurvey is what is known of one loop.
type loopSurvey struct {
	calls bool // in it
	// table are the blocks that a jump to the loop's head goes on behind, by the value of selector; nil unless that is
	// all the head does. other is set if anything else jumps there than a constant selector.
	selector uint32
	table    []target
	other    bool
	back     []int
	// head is the instruction that takes the selector for the table.
	head int
	// often are values of the selector that are the likeliest.
	often []uint32
}

// target is a block: where it starts, and how deep in others it is.
type target struct{ start, depth int }

// dispatches says whether a loop is there to jump about in its function, as Go's compiler makes them: its head is
//
//	loop block block ... local.get selector, br_table end ... end ... end
//
// and all that jumps there is `i32.const n, local.set selector, br`. A jump is back or forward then as the end of block n
// is. Only those back need checks, and those on need not go through the head.
func (l *loopSurvey) dispatches() bool { return l.calls && l.table != nil && !l.other }

// surveyor is the state of a survey.
type surveyor struct {
	survey
	code   []byte
	blocks []place
	// first are the blocks around the first call, as far as they have all calls. The present instruction is in the first
	// around of them.
	first  []place
	around int
	// head is the loop whose head is being read, or -1.
	head         int
	last, before instr
}

// place is a block that the present instruction is in.
type place struct {
	loop  int // its number, or -1
	start int
	child int // where the present instruction of this block starts, which may be a block itself
}

// surveyOf also finds the place for the function's own check. It is in the innermost block that has all calls in it,
// before the block or instruction there that has the first: whoever does not pass it leaves that block, and no call is
// outside. Once inside a loop nothing is needed, because a loop checks when it is entered; those that dispatch do not.
func surveyOf(code []byte) (survey, error) {
	s := &surveyor{code: code, blocks: []place{{loop: -1}}, head: -1}
	err := walk(code, func(in *instr) {
		s.instr(in)
		s.before, s.last = s.last, *in
	})
	for i := range s.loops {
		l := &s.loops[i]
		l.other = l.other || s.tries // whose labels are not looked at
		if l.dispatches() {
			s.back = append(s.back, l.back...)
		}
	}
	slices.Sort(s.back)
	switch {
	case s.calls:
		s.checkAt = s.first[len(s.first)-1].child
		for i, p := range s.first {
			if p.loop < 0 {
				continue
			}
			s.checkAt = -1
			if s.loops[p.loop].dispatches() {
				s.checkAt = s.first[i-1].child
			}
			break
		}
	case s.weight <= leaf:
		s.checkAt = -1
	}
	return s.survey, err
}

func (s *surveyor) instr(in *instr) {
	s.weight++
	s.blocks[len(s.blocks)-1].child = in.start
	s.atHead(in)
	switch in.op {
	case opLoop:
		s.head = len(s.loops)
		s.blocks = append(s.blocks, place{loop: len(s.loops), start: in.start})
		s.loops = append(s.loops, loopSurvey{})
	case opBlock, opIf, opTryTable:
		s.tries = s.tries || in.op == opTryTable
		s.blocks = append(s.blocks, place{loop: -1, start: in.start})
	case opElse: // another block in all but name
		s.around = min(s.around, len(s.blocks)-1)
	case opEnd:
		s.blocks = s.blocks[:len(s.blocks)-1]
		s.around = min(s.around, len(s.blocks))
	case opBr, opBrIf:
		s.jump(in.index, in)
	case opBrTable:
		r := &reader{b: s.code, pos: in.start + 1}
		for n := r.u32(); r.pos < in.end; n-- {
			s.jump(r.u32(), in)
		}
	case opCall, opCallIndirect, opReturnCall, opReturnCallIn:
		s.weight += leaf
		s.call()
	case opMemoryFill, opMemoryCopy, opMemoryInit:
		s.weight += bulkWeight
	case opTableInit, opTableCopy, opTableFill:
		s.weight += tableWeight
	}
}

func (s *surveyor) call() {
	if !s.calls {
		s.calls = true
		s.first = slices.Clone(s.blocks)
		s.around = len(s.first)
	}
	s.first = s.first[:s.around]
	// Loops around one that is known to have calls are known too.
	for i := len(s.blocks) - 1; i > 0; i-- {
		if n := s.blocks[i].loop; n >= 0 {
			if s.loops[n].calls {
				return
			}
			s.loops[n].calls = true
		}
	}
}

// atHead follows the head of a loop that may dispatch, up to its br_table.
func (s *surveyor) atHead(in *instr) {
	if s.head < 0 || in.op == opBlock || in.op == opLocalGet && s.last.op != opLocalGet {
		return
	}
	l := &s.loops[s.head]
	s.head = -1
	if in.op != opBrTable || s.last.op != opLocalGet {
		return
	}
	l.head = s.last.start
	l.selector = (&reader{b: s.code, pos: s.last.start + 1}).u32()
	r := &reader{b: s.code, pos: in.start + 1}
	for n := uint64(r.u32()) + 1; n > 0; n-- {
		t := target{start: -1} // a loop
		if at := len(s.blocks) - 1 - int(r.u32()); at > 0 && s.blocks[at].loop < 0 {
			t = target{s.blocks[at].start, at}
		}
		l.table = append(l.table, t)
	}
}

// jump notes a jump to a label.
func (s *surveyor) jump(label uint32, in *instr) {
	at := len(s.blocks) - 1 - int(label)
	if at <= 0 || s.blocks[at].loop < 0 {
		return
	}
	l := &s.loops[s.blocks[at].loop]
	if l.table == nil || in.op != opBr || s.last.op != opLocalSet || s.before.op != opI32Const ||
		(&reader{b: s.code, pos: s.last.start + 1}).u32() != l.selector {
		l.other = true
		return
	}
	n := uint32((&reader{b: s.code, pos: s.before.start + 1}).signed(5))
	t := l.table[min(uint64(n), uint64(len(l.table)-1))]
	if t.depth >= len(s.blocks) || s.blocks[t.depth].start != t.start {
		l.back = append(l.back, in.start) // its end has been passed
		if len(l.often) < mostOften && !slices.Contains(l.often, n) {
			l.often = append(l.often, n)
		}
		return
	}
	s.forward = append(s.forward, shortcut{in.start, t.depth})
}

// hasParams says whether a loop, or another block, takes operands: its type is an index then, a number.
func hasParams(block []byte) bool { return (&reader{b: block, pos: 1}).signed(5) >= 0 }

// doubles says whether the function's loops may be made two.
func (s survey) doubles() bool { return !s.tries && len(s.loops) <= mostLoops }

// rounds is the number of rounds that the function's loops make between two checks. One would never get on.
func (s survey) rounds() int64 { return int64(max(2, min(mostRounds, spell/max(s.weight, 1)))) }
