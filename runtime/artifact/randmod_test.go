package artifact

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Value types.
const (
	i32 = 0x7f
	i64 = 0x7e
	f32 = 0x7d
	f64 = 0x7c
)

type sig struct{ params, results []byte }

// randModule makes valid modules that always come to an end: every loop and every function burns fuel, a global, and
// traps without. Floats never become bits, because NaNs have many.
type randModule struct {
	*rand.Rand
	types   []sig
	funcs   []int  // type of each own function
	globals []byte // types of the mutable globals; the first is the fuel
	locals  []byte
	b       []byte
	labels  []byte // result type of each enclosing label, 0 for none, 1 for several
	budget  int
	self    int // the function being made
	// goes says that the module passes for Go's: each function has a stack pointer then, a local of its own.
	goes bool
}

// The index spaces: function 0 is env.log(i32), global 0 is env.k, an immutable i32.
const (
	logType  = 0
	firstFn  = 1
	firstGlo = 1
)

func randomModule(seed uint64) []byte {
	g := &randModule{Rand: rand.New(rand.NewPCG(seed, 1))}
	g.types = []sig{{params: []byte{i32}}, {}}
	for range 1 + g.IntN(4) {
		s := sig{}
		for range g.IntN(4) {
			s.params = append(s.params, g.valType())
		}
		for range g.IntN(3) {
			s.results = append(s.results, g.valType())
		}
		g.types = append(g.types, s)
	}
	for range 1 + g.IntN(6) {
		g.funcs = append(g.funcs, 1+g.IntN(len(g.types)-1))
	}
	g.globals = []byte{i32}
	for range g.IntN(5) {
		g.globals = append(g.globals, g.valType())
	}
	g.goes = g.one(3)
	return g.module()
}

func (g *randModule) valType() byte        { return []byte{i32, i64, f32, f64}[g.IntN(4)] }
func (g *randModule) one(oneIn int) bool   { return g.IntN(oneIn) == 0 }
func (g *randModule) op(b ...byte)         { g.b = append(g.b, b...) }
func (g *randModule) u(v int)              { g.b = binary.AppendUvarint(g.b, uint64(v)) }
func (g *randModule) take() (b []byte)     { b, g.b = g.b, nil; return b }
func (g *randModule) fn() int              { return firstFn + g.IntN(len(g.funcs)) }
func vec(n int, body []byte) string        { return leb(uint64(n)) + string(body) }
func (g *randModule) bytes(v []byte)       { g.u(len(v)); g.b = append(g.b, v...) }
func (g *randModule) name(s string)        { g.bytes([]byte(s)) }
func (g *randModule) i32Const(v int32)     { g.op(0x41); g.sleb(int64(v)) }
func (g *randModule) local(t byte) (n int) { return g.index(g.locals, t) }

func (g *randModule) sleb(v int64) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			g.op(c)
			return
		}
		g.op(c | 0x80)
	}
}

// index returns a random index of t in list, or -1.
func (g *randModule) index(list []byte, t byte) int {
	n := -1
	seen := 0
	for i, v := range list {
		if v == t {
			if seen++; g.IntN(seen) == 0 {
				n = i
			}
		}
	}
	return n
}

func (g *randModule) module() []byte {
	out := header
	for _, s := range g.types {
		g.op(0x60)
		g.bytes(s.params)
		g.bytes(s.results)
	}
	out += section(1, vec(len(g.types), g.take()))
	g.name("env")
	g.name("log")
	g.op(0, logType)
	g.name("env")
	g.name("k")
	g.op(3, i32, 0)
	out += section(2, vec(2, g.take()))
	for _, t := range g.funcs {
		g.u(t)
	}
	out += section(3, vec(len(g.funcs), g.take()))
	out += section(4, "\x01\x70\x00\x08")
	pages := 1 + g.IntN(3)
	out += section(5, "\x01\x01"+leb(uint64(pages))+"\x05")
	for i, t := range g.globals {
		g.op(t, 1)
		if i > 0 && t == i32 && g.one(2) {
			g.op(0x23, 0)
		} else {
			g.constant(t, i == 0)
		}
		g.op(0x0b)
	}
	g.op(i32, 1, 0x41, 0, 0x0b) // the stack pointer
	out += section(6, vec(len(g.globals)+1, g.take()))
	out += g.exports()
	if g.types[g.funcs[0]].params == nil && g.types[g.funcs[0]].results == nil && g.one(2) {
		out += section(8, leb(firstFn))
	}
	out += g.elements()
	passive := g.one(2)
	segments, n := g.data(pages, passive)
	if passive {
		out += section(12, leb(uint64(n)))
	}
	code := ""
	for i, t := range g.funcs {
		g.self = firstFn + i
		body := g.body(g.types[t], passive)
		code += vec(len(body), body)
	}
	out += section(10, leb(uint64(len(g.funcs)))+code)
	if n > 0 {
		out += section(11, segments)
	}
	if g.one(2) {
		out += section(0, "\x03abcxyz")
	}
	if g.goes {
		out += section(0, "\x0ago:buildidx")
	}
	return []byte(out)
}

func (g *randModule) exports() string {
	n := 0
	export := func(name string, kind byte, index int) {
		n++
		g.name(name)
		g.op(kind)
		g.u(index)
	}
	for i := range g.funcs {
		export("f"+string(rune('0'+i)), 0, firstFn+i)
	}
	for i := range g.globals {
		export("g"+string(rune('0'+i)), 3, firstGlo+i)
	}
	export("k", 3, 0)
	export("log", 0, 0)
	export("memory", 2, 0)
	export("table", 1, 0)
	return section(7, vec(n, g.take()))
}

func (g *randModule) elements() string {
	g.op(0, 0x41, byte(g.IntN(3)), 0x0b) // active, plain list
	n := 1 + g.IntN(4)
	g.u(n)
	for range n {
		g.u(g.IntN(firstFn + len(g.funcs)))
	}
	g.op(4, 0x41, 5, 0x0b, 2, 0xd2) // active, expressions
	g.u(g.fn())
	g.op(0x0b, 0xd0, 0x70, 0x0b)
	g.op(3, 0) // declarative, so that bodies may use ref.func
	g.u(len(g.funcs))
	for i := range g.funcs {
		g.u(firstFn + i)
	}
	return section(9, vec(3, g.take()))
}

// data makes segments; the first is passive if the code is going to name it.
func (g *randModule) data(pages int, passive bool) (string, int) {
	n := 0
	if passive {
		g.op(1)
		g.bytes([]byte("passive data"))
		n++
	}
	size := pages << 16
	for range g.IntN(6) {
		d := make([]byte, g.IntN(300))
		for i := range d {
			d[i] = byte(g.Uint32())
		}
		at := g.IntN(size - len(d) + 1)
		if g.one(30) {
			at = size - g.IntN(3) // may be out of bounds
		}
		g.op(0)
		if g.one(10) {
			g.op(0x23, 0) // env.k
		} else {
			g.i32Const(int32(at))
		}
		g.op(0x0b)
		g.bytes(d)
		n++
	}
	return vec(n, g.take()), n
}

func (g *randModule) constant(t byte, fuel bool) {
	switch {
	case fuel:
		g.i32Const(3000)
	case t == i32:
		g.i32Const(g.number())
	case t == i64:
		g.op(0x42)
		g.sleb(int64(g.number()) << g.IntN(33))
	case t == f32:
		g.op(0x43)
		g.b = binary.LittleEndian.AppendUint32(g.b, math.Float32bits(float32(g.number())/8))
	case t == f64:
		g.op(0x44)
		g.b = binary.LittleEndian.AppendUint64(g.b, math.Float64bits(float64(g.number())/8))
	}
}

func (g *randModule) number() int32 {
	switch g.IntN(4) {
	case 0:
		return int32(g.IntN(10)) - 2
	case 1:
		return []int32{math.MinInt32, math.MaxInt32, -1, 0xffff}[g.IntN(4)]
	}
	return int32(g.Uint32())
}

func (g *randModule) body(s sig, passive bool) []byte {
	g.locals = append([]byte(nil), s.params...)
	g.b = nil
	n := g.IntN(5)
	g.u(n + 1)
	for range n {
		t := g.valType()
		g.op(1, t)
		g.locals = append(g.locals, t)
	}
	g.op(1, i32) // the stack pointer
	g.labels = []byte{byte(min(len(s.results), 1))}
	g.budget = 60
	g.burn()
	if passive && g.one(3) {
		g.op(0x41, 8, 0x41, 2, 0x41, 5, 0xfc, 8, 0, 0) // memory.init
		if g.one(8) {
			g.op(0xfc, 9, 0) // data.drop
		}
	}
	for range 1 + g.IntN(5) {
		g.stmt(3)
	}
	for _, t := range s.results {
		g.expr(t, 3)
	}
	g.op(0x0b)
	return g.take()
}

func (g *randModule) burn() {
	g.op(0x23, firstGlo, 0x45, 0x04, 0x40, 0x00, 0x0b, 0x23, firstGlo, 0x41, 1, 0x6b, 0x24, firstGlo)
}
