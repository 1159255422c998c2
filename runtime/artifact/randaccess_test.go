package artifact

import "slices"

// accesses loads and stores by the same variable, which changes now and then.
func (g *randModule) accesses(depth int) {
	t := byte(i64)
	if !g.goes && g.one(2) { // what passes for Go's has only its stack pointer of 32 bits
		t = i32
	}
	i := g.local(t)
	if i < 0 {
		return
	}
	set := func() {
		if g.one(3) { // near the end of memory
			g.op(0x3f, 0, 0x41, 16, 0x74)
			g.i32Const(int32(g.IntN(96)))
			g.op(0x6b)
		} else {
			g.address(depth - 1)
		}
		if t == i64 {
			g.op(0xad)
		}
		g.op(0x21)
		g.u(i)
	}
	set()
	for range 2 + g.IntN(6) {
		g.access(depth, func() {
			g.op(0x20)
			g.u(i)
			if g.one(8) {
				g.op(0x22)
				g.u(i)
			}
			if t == i64 {
				g.op(0xa7)
			}
		}, g.IntN(64))
		if g.one(10) {
			set()
		}
	}
}

// stack does what Go's code does with its stack, in the middle of memory.
func (g *randModule) stack(depth int) {
	sp := len(g.locals)
	get := func() { g.op(0x20); g.u(sp) }
	g.expr(i32, depth-1)
	g.i32Const(0x3ff8)
	g.op(0x71)
	g.i32Const(64)
	g.op(0x6a, 0x24)
	g.u(firstGlo + len(g.globals))
	g.op(0x23)
	g.u(firstGlo + len(g.globals))
	g.op(0x21)
	g.u(sp)
	for range 2 + g.IntN(6) {
		switch g.IntN(4) {
		case 0: // a call
			get()
			g.op(0x41, 8, 0x6b, 0x22)
			g.u(sp)
			g.op(0x1a)
			get()
			g.op(0x42, 5, 0x37, 3, 0)
			get()
			g.op(0x10, 0)
		case 1: // a sum
			g.access(depth, func() {
				get()
				g.op(0xad, 0x42)
				g.sleb(int64(g.IntN(128)))
				g.op(0x7c, 0xa7)
			}, g.IntN(64))
		default:
			g.access(depth, get, g.IntN(256))
		}
	}
}

// access loads or stores once. Now and then a way leads out, or around, before the next.
func (g *randModule) access(depth int, address func(), offset int) {
	address()
	switch g.IntN(5) {
	case 0:
		g.expr(i64, depth-1)
		g.op([]byte{0x37, 0x3c, 0x3d, 0x3e}[g.IntN(4)], 0)
		g.u(offset)
	case 4: // what lies elsewhere
		address()
		g.op(0x29, 0)
		g.u(g.IntN(64))
		g.op([]byte{0x37, 0x3c, 0x3d, 0x3e}[g.IntN(4)], 0)
		g.u(offset)
	case 1:
		g.expr(i32, 0)
		g.op([]byte{0x36, 0x3a, 0x3b}[g.IntN(3)], 0)
		g.u(offset)
	default:
		op := []byte{0x28, 0x2c, 0x2d, 0x2e, 0x2f, 0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35}[g.IntN(12)]
		g.op(op, 0)
		g.u(offset)
		if op == 0x28 || op >= 0x2c && op <= 0x2f {
			g.op(0xad)
		}
		if i := g.local(i64); i >= 0 && g.one(3) {
			g.op(0x21)
			g.u(i)
		} else {
			g.op(0x1a)
		}
	}
	if g.one(12) { // a division, maybe by 0
		g.expr(i32, depth-1)
		g.expr(i32, 0)
		g.op(0x41, 3, 0x71, 0x6e, 0x1a)
	}
	if depth <= 0 || !g.one(3) {
		return
	}
	g.expr(i32, depth-1)
	if g.one(4) && slices.Contains(g.labels, 0) {
		g.op(0x0d, g.label())
		return
	}
	g.op(0x04, 0x40)
	g.labels = append(g.labels, 0)
	for range g.IntN(3) {
		g.access(depth-1, address, g.IntN(64))
	}
	if g.one(3) {
		g.op(0x05)
		g.access(depth-1, address, g.IntN(64))
	}
	if !g.one(4) {
		g.op(0x0c, g.label())
	}
	if g.one(8) {
		g.access(0, address, g.IntN(64)) // for nobody
	}
	g.op(0x0b)
	g.labels = g.labels[:len(g.labels)-1]
}
