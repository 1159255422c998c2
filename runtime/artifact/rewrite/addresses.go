package rewrite

// How a body's accesses to memory are made cheaper.
//
// The compiler checks the bounds of an access unless it has checked as much by the same value before. It tells values by
// the instruction that made them, and looks at nothing ahead. Hence, as far as code runs straight on:
//
//   - What is wrapped more than once of the same 64 bit variable, as Go's pointers are, is kept in a local.
//   - A load that nobody uses comes before several accesses of growing offsets: its check is that of them all. It traps
//     only where one of them would have. What the guest wrote in between is missing then, where nobody looks any more.
//   - A sum that Go made of its stack pointer becomes an offset, and all accesses before a call go by the stack pointer
//     that the call will have, because the call writes there.
//
// The last is only true of Go, whose stacks neither begin at 0 nor end at 4 GiB, and are there as a whole.
//
// A comparison that is negated becomes its opposite, since the compiler makes one branch of that.

// none is the number of no local.
const none = ^uint32(0)

const (
	// mostKept is how many locals a function gets at most to keep values in.
	mostKept = 1 << 10
	// mostKnown is how many variables and values are remembered beyond a branch, each of which copies them, and mostIfs
	// beyond how many branches within each other.
	mostKnown = 1 << 8
	mostIfs   = 1 << 5
	// farthest is how far from a base an access may reach to be looked at.
	farthest = 1 << 31
)

// edit changes one instruction: put, if not nil, stands instead of it, and after behind it.
type edit struct{ put, after []byte }

// base is what an address starts from: a variable's value, as it is or wrapped to 32 bits.
type base struct {
	local, version uint32
	wrapped        bool
}

// use is one access by a base: where the base was put on the stack, and the instruction that took it.
type use struct {
	from, at      int
	op            byte
	align, offset uint32
}

// reach is how far the accesses by one base go: the first, and the farthest.
type reach struct {
	first, most uint64
	uses        []use
}

// kept is a wrapped variable: the instruction that wrapped it first, and the local that keeps it, or none.
type kept struct {
	at int
	in uint32
}

// addresses looks through a body for what can be done about its addresses.
type addresses struct {
	code []byte
	// pointers are the variables that hold Go's stack pointer.
	pointers map[uint32]bool
	edits    map[int]edit
	last     [4]instr // the latest first
	known
	// ifs is what was known before each of the innermost blocks, as far as they are an `if` to whose end no way leads but
	// around it; left says that the innermost one has been left by a jump.
	ifs  []known
	left bool
	// version numbers all values of variables, span the pieces of code that run as a whole unless something traps.
	version uint32
	span    int
	// next is the first local that is free, and room how many there may be. inUse counts those in use, most how many ever
	// were.
	next, room, inUse, most uint32
}

// addressesOf looks through a body whose first free local is next, and which may have room more.
func addressesOf(code []byte, next, room uint32, goes bool) (*addresses, error) {
	a := &addresses{code: code, edits: map[int]edit{}, next: next, room: room}
	if goes {
		if err := a.findPointers(); err != nil {
			return nil, err
		}
	}
	a.forget()
	return a, a.walk(a.instr)
}

func (a *addresses) walk(f func(*instr)) error {
	a.last = [4]instr{}
	return walk(a.code, func(in *instr) {
		f(in)
		a.last = [4]instr{*in, a.last[0], a.last[1], a.last[2]}
	})
}

// findPointers looks for the variables that are only ever given a global, as which Go passes the stack pointer on, and
// what is a constant more or less than what they were.
func (a *addresses) findPointers() error {
	a.pointers = map[uint32]bool{}
	err := a.walk(func(in *instr) {
		if in.op != opLocalSet && in.op != opLocalTee {
			return
		}
		l := &a.last
		local := a.local(in)
		moved := (l[0].op == opI32Add || l[0].op == opI32Sub) && l[1].op == opI32Const && variable(&l[2]) && a.local(&l[2]) == local
		before, seen := a.pointers[local]
		a.pointers[local] = (before || !seen) && (moved || l[0].op == opGlobalGet)
	})
	return err
}

// isPointer says whether b is Go's stack pointer.
func (a *addresses) isPointer(b base) bool { return !b.wrapped && a.pointers[b.local] }

// settle ends a reach. Accesses that go farther than the first get one that goes as far as any before them.
func (a *addresses) settle(b base) {
	r := a.reaches[b]
	delete(a.reaches, b)
	if r.most == r.first {
		return
	}
	local := b.local
	if b.wrapped {
		local = a.wrapped[b].in // two uses have made it kept
	}
	e := a.edits[r.uses[0].from]
	e.after = appendReach(e.after, local, r.most)
	a.edits[r.uses[0].from] = e
}

// appendReach appends a load that nobody uses, of the last byte before most.
func appendReach(b []byte, local uint32, most uint64) []byte {
	b = append(appendU32(append(b, opLocalGet), local), opI32Load8U, 0)
	return append(appendU32(b, uint32(most-1)), opDrop)
}

// remove takes instructions out.
func (a *addresses) remove(starts ...int) {
	for _, start := range starts {
		a.edits[start] = edit{put: []byte{}}
	}
}

// wrap is a 64 bit value made an address.
func (a *addresses) wrap(in *instr, o operand) operand {
	l := &a.last
	switch {
	case variable(&l[0]) && o.at == l[0].start:
		o.wrapped = true
		k, again := a.wrapped[o.base]
		switch {
		case !again:
			a.wrapped[o.base] = &kept{in.start, none}
		case k.in != none || a.keep(k):
			a.remove(l[0].start)
			a.edits[in.start] = edit{put: appendU32([]byte{opLocalGet}, k.in)}
		default:
			return operand{}
		}
		o.at = in.start
		return o
	case l[0].op == opI64Add && l[1].op == opI64Const && l[2].op == opI64ExtendU && variable(&l[3]) && a.pointers[a.local(&l[3])]:
		if c := a.number(&l[1]); c >= 0 && c < farthest {
			o = a.variable(a.local(&l[3]), l[3].start)
			o.offset, o.sum = uint64(c), []int{l[2].start, l[1].start, l[0].start, in.start}
			return o
		}
	}
	return operand{}
}

func variable(in *instr) bool { return in.op == opLocalGet || in.op == opLocalTee }

// keep gives a wrapped variable a local.
func (a *addresses) keep(k *kept) bool {
	var ok bool
	if k.in, ok = a.temporary(); ok {
		e := a.edits[k.at]
		e.after = append(appendU32([]byte{opLocalTee}, k.in), e.after...)
		a.edits[k.at] = e
	}
	return ok
}

// temporary is a local that is free as far as code runs straight on.
func (a *addresses) temporary() (uint32, bool) {
	if a.inUse == a.room {
		return none, false
	}
	a.inUse++
	a.most = max(a.most, a.inUse)
	return a.next + a.inUse - 1, true
}

// access is a load or store at an address.
func (a *addresses) access(in *instr, o operand) {
	if !o.made {
		return
	}
	r := &reader{b: a.code, pos: in.start + 1}
	u := use{from: o.at, at: in.start, op: byte(in.op), align: r.u32()}
	offset := uint64(r.u32()) + o.offset
	end := offset + accessSize(in.op)
	if end > farthest {
		return
	}
	u.offset = uint32(offset)
	far := a.reaches[o.base]
	if far == nil {
		if o.span != a.span {
			return
		}
		far = &reach{first: end}
		a.reaches[o.base] = far
	}
	far.most = max(far.most, end)
	far.uses = append(far.uses, u)
	if o.sum != nil {
		a.remove(o.sum...)
		a.edits[u.at] = edit{put: u.higher(0)}
	}
}

// higher is the access with an offset that is higher.
func (u use) higher(more uint32) []byte {
	return appendU32(appendU32([]byte{u.op}, u.align), u.offset+more)
}

// slot is the size of a return address of Go's, in bytes.
const slot = 8

// beforeCall is where a variable is set. If that makes room on Go's stack for a return address, the accesses by what the
// stack pointer was so far go by what it becomes.
func (a *addresses) beforeCall(in *instr) {
	l := &a.last
	b := a.variable(a.local(in), 0).base
	if l[0].op != opI32Sub || l[1].op != opI32Const || l[2].op != opLocalGet || a.number(&l[1]) != slot ||
		a.local(&l[2]) != b.local || !a.isPointer(b) {
		return
	}
	r := a.reaches[b]
	if r == nil {
		return
	}
	first := r.uses[0].from
	for _, u := range r.uses {
		if a.code[u.from] != opLocalGet {
			return
		}
		first = min(first, u.from)
	}
	below, ok := a.temporary()
	if !ok {
		return
	}
	get := appendU32([]byte{opLocalGet}, below)
	for _, u := range r.uses {
		a.edits[u.from] = edit{put: get}
		a.edits[u.at] = edit{put: u.higher(slot)}
	}
	put := append(appendU32([]byte{opLocalGet}, b.local), opI32Const, slot, opI32Sub)
	put = appendU32(append(put, opLocalTee), below)
	if r.most > r.first {
		put = appendReach(put, below, r.most+slot)
	}
	a.edits[first] = edit{put: put}
	a.edits[l[2].start] = edit{put: get}
	a.remove(l[1].start, l[0].start)
	delete(a.reaches, b)
}

func (a *addresses) negate(in *instr) {
	a.pop()
	a.push(operand{})
	if op := opposite(a.last[0].op); op != 0 {
		a.edits[a.last[0].start] = edit{put: []byte{op}}
		a.remove(in.start)
	}
}
