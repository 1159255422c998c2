package artifact

// stmt emits instructions that leave the stack as it was.
func (g *randModule) stmt(depth int) {
	if g.budget--; g.budget < 0 {
		g.op(0x01)
		return
	}
	n := 19
	if depth <= 0 {
		n = 5
	}
	switch g.IntN(n) {
	case 0, 1:
		if len(g.locals) > 0 {
			i := g.IntN(len(g.locals))
			g.expr(g.locals[i], depth-1)
			g.op(0x21)
			g.u(i)
		}
	case 2:
		if len(g.globals) > 1 {
			i := 1 + g.IntN(len(g.globals)-1)
			g.expr(g.globals[i], depth-1)
			g.op(0x24)
			g.u(firstGlo + i)
		}
	case 3:
		g.address(depth - 1)
		if g.one(2) {
			g.expr(i32, depth-1)
			g.op([]byte{0x36, 0x3a, 0x3b}[g.IntN(3)], 0)
		} else {
			g.expr(i64, depth-1)
			g.op([]byte{0x37, 0x3c, 0x3e}[g.IntN(3)], 0)
		}
		g.u(g.offset())
	case 4:
		g.expr(i32, depth-1)
		g.op(0x10, 0)
	case 5:
		g.block(0x02, depth, func() {
			g.branches(depth)
		})
	case 6, 7:
		g.block(0x03, depth, func() {
			g.burn()
			g.stmt(depth - 1)
			g.expr(i32, depth-1)
			g.op(0x41, 3, 0x71, 0x45, 0x0d, 0) // back to the head, now and then
		})
	case 8:
		g.expr(i32, depth-1)
		g.block(0x04, depth, func() {
			g.stmt(depth - 1)
			if g.one(2) {
				g.op(0x05)
				g.stmt(depth - 1)
			}
		})
	case 9:
		g.call(depth)
	case 10: // memory.fill or copy
		g.address(depth - 1)
		if g.one(2) {
			g.expr(i32, depth-1)
			g.size(depth)
			g.op(0xfc, 11, 0)
		} else {
			g.address(depth - 1)
			g.size(depth)
			g.op(0xfc, 10, 0, 0)
		}
	case 11: // a switch
		g.op(0x02, 0x40, 0x02, 0x40)
		g.labels = append(g.labels, 0, 0)
		g.expr(i32, depth-1)
		g.op(0x0e, 2, g.label(), 1, g.label())
		g.op(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
		g.stmt(depth - 1)
		g.op(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
	case 12:
		g.dispatch(depth)
	case 13, 14, 15:
		g.accesses(depth)
	case 16, 17, 18:
		if g.goes {
			g.stack(depth)
		} else {
			g.accesses(depth)
		}
	}
}

// dispatch is a loop whose head jumps to where a local says, as Go's compiler makes them.
func (g *randModule) dispatch(depth int) {
	i := g.local(i32)
	if i < 0 {
		return
	}
	jump := func(label byte) {
		g.expr(i32, depth-1)
		g.op(0x04, 0x40)
		g.i32Const(int32(g.IntN(3)))
		g.op(0x21)
		g.u(i)
		g.op(0x0c, label, 0x0b)
	}
	g.op(0x03, 0x40, 0x02, 0x40, 0x02, 0x40, 0x20)
	g.u(i)
	g.op(0x0e, 1, 0, 1, 0x0b)
	g.labels = append(g.labels, 0, 0)
	g.burn()
	g.i32Const(100)
	g.op(0x10, 0)
	g.stmt(depth - 1)
	jump(2)
	g.op(0x0b)
	g.labels = g.labels[:len(g.labels)-1]
	g.burn()
	g.stmt(depth - 1)
	jump(1)
	g.op(0x0b)
	g.labels = g.labels[:len(g.labels)-1]
}

// label returns an enclosing label that takes no result.
func (g *randModule) label() byte {
	for {
		if l := g.IntN(len(g.labels)); g.labels[len(g.labels)-1-l] == 0 {
			return byte(l)
		}
	}
}

// size pushes how much to fill or copy: little as a rule, sometimes more than the rewriter leaves in one piece.
func (g *randModule) size(depth int) {
	switch g.IntN(6) {
	case 0:
		g.expr(i32, depth-1)
		g.i32Const(0x1ffff)
		g.op(0x71)
	case 1:
		g.i32Const(int32(g.IntN(0x14000)))
	default:
		g.i32Const(int32(g.IntN(100)))
	}
}

func (g *randModule) block(op byte, depth int, inner func()) {
	g.op(op, 0x40)
	g.labels = append(g.labels, 0)
	inner()
	g.op(0x0b)
	g.labels = g.labels[:len(g.labels)-1]
}

func (g *randModule) branches(depth int) {
	for range 1 + g.IntN(3) {
		g.stmt(depth - 1)
		g.expr(i32, depth-1)
		g.op(0x0d, g.label())
	}
}

// call calls any function, directly or through the table, and drops its results.
func (g *randModule) call(depth int) {
	f := g.fn()
	if f <= g.self && !g.one(10) {
		return // recursion burns all the fuel
	}
	s := g.types[g.funcs[f-firstFn]]
	for _, t := range s.params {
		g.expr(t, depth-1)
	}
	if g.one(6) {
		g.expr(i32, depth-1)
		g.i32Const(7)
		g.op(0x71, 0x11)
		g.u(g.funcs[f-firstFn])
		g.op(0)
	} else {
		g.op(0x10)
		g.u(f)
	}
	for range s.results {
		g.op(0x1a)
	}
}

// address emits an address that is often, not always, in bounds.
func (g *randModule) address(depth int) {
	g.expr(i32, depth)
	g.i32Const([]int32{0xff, 0xff, 0x7fff, 0x1ffff}[g.IntN(4)])
	g.op(0x71)
}

// expr emits instructions that push one value of type t.
func (g *randModule) expr(t byte, depth int) {
	if g.budget--; depth <= 0 || g.budget < 0 {
		g.leaf(t)
		return
	}
	switch g.IntN(8) {
	case 0, 1:
		g.leaf(t)
	case 2, 3:
		g.expr(t, depth-1)
		g.expr(t, depth-1)
		op := map[byte][]byte{
			i32: {0x6a, 0x6b, 0x6c, 0x6d, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x77},
			i64: {0x7c, 0x7d, 0x7e, 0x7f, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x89},
			f32: {0x92, 0x93, 0x94, 0x95, 0x96},
			f64: {0xa0, 0xa1, 0xa2, 0xa3, 0xa4},
		}[t]
		o := op[g.IntN(len(op))]
		if !g.one(4) { // divide by odd numbers, mostly
			switch o {
			case 0x6d, 0x6f, 0x70:
				g.op(0x41, 1, 0x72)
			case 0x7f, 0x81, 0x82:
				g.op(0x42, 1, 0x84)
			}
		}
		g.op(o)
	case 4:
		g.convert(t, depth)
	case 5: // if with a result
		g.expr(i32, depth-1)
		g.op(0x04, t)
		g.labels = append(g.labels, t)
		g.expr(t, depth-1)
		g.op(0x05)
		g.expr(t, depth-1)
		g.op(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
	case 6: // loop with a result
		g.op(0x03, t)
		g.labels = append(g.labels, 0)
		g.burn()
		g.stmt(depth - 1)
		g.expr(t, depth-1)
		g.op(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
	case 7: // select
		g.expr(t, depth-1)
		g.expr(t, depth-1)
		g.expr(i32, depth-1)
		g.op(0x1b)
	}
}

func (g *randModule) leaf(t byte) {
	switch i := g.local(t); {
	case i >= 0 && !g.one(3):
		g.op(0x20)
		g.u(i)
	case g.one(2):
		if i := g.index(g.globals[1:], t); i >= 0 {
			g.op(0x23)
			g.u(firstGlo + 1 + i)
			return
		}
		fallthrough
	default:
		if t == i32 && g.one(6) {
			g.op(0x23, 0) // env.k
			return
		}
		g.constant(t, false)
	}
}

func (g *randModule) convert(t byte, depth int) {
	switch t {
	case i32:
		switch g.IntN(8) {
		case 0:
			g.address(depth - 1)
			g.op([]byte{0x28, 0x2c, 0x2d, 0x2e, 0x2f}[g.IntN(5)], 0)
			g.u(g.offset())
		case 1:
			g.op(0x3f, 0)
		case 2:
			g.i32Const(int32(g.IntN(2)))
			g.op(0x40, 0) // memory.grow
		case 3:
			g.expr(i64, depth-1)
			g.op([]byte{0xa7, 0x50}[g.IntN(2)])
		case 4:
			g.expr(f64, depth-1)
			g.op(0xfc, 2)
		case 5:
			g.expr(f32, depth-1)
			g.expr(f32, depth-1)
			g.op(0x5d)
		case 6:
			g.op(0xd2)
			g.u(g.fn())
			g.op(0xd1) // ref.is_null
		case 7:
			if g.one(2) { // a comparison negated
				t := []byte{i32, i64}[g.IntN(2)]
				g.expr(t, depth-1)
				g.expr(t, depth-1)
				g.op(map[byte]byte{i32: 0x46, i64: 0x51}[t]+byte(g.IntN(10)), 0x45)
				return
			}
			g.expr(i32, depth-1)
			g.op([]byte{0x45, 0x67, 0x68, 0x69, 0xc0, 0xc1}[g.IntN(6)])
		}
	case i64:
		switch g.IntN(3) {
		case 0:
			g.address(depth - 1)
			g.op(0x29, 0)
			g.u(g.offset())
		case 1:
			g.expr(i32, depth-1)
			g.op([]byte{0xac, 0xad}[g.IntN(2)])
		case 2:
			g.expr(f32, depth-1)
			g.op(0xfc, 4)
		}
	case f32:
		g.expr([]byte{i32, f64}[g.IntN(2)], 0)
		g.b = g.b[:len(g.b):len(g.b)]
		g.op(0x1a) // the operand's type decides; keep to one that is known
		g.expr(i32, depth-1)
		g.op(0xb2)
	case f64:
		g.expr(f32, depth-1)
		g.op(0xbb)
	}
}

// offset is a memory operand's, small but for now and then.
func (g *randModule) offset() int {
	if g.one(20) {
		return g.IntN(70000)
	}
	return g.IntN(1000)
}
