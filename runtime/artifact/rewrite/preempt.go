package rewrite

import (
	"errors"
	"fmt"
)

// errLeave says that a module has something the rewriter does not know; it must stay as it is.
var errLeave = errors.New("not rewritten")

// shift is how inserting one import moves an index space: indices from at on are one higher.
type shift struct{ at uint32 }

func (s shift) of(i uint32) uint32 {
	if i >= s.at {
		return i + 1
	}
	return i
}

// preempter is the state of one rewriting.
type preempter struct {
	m       *Module
	funcs   shift
	globals shift
	check   []byte
	// origins are kept only if track is set: they take 8 bytes for each instruction.
	track   bool
	origins []Origin
}

// Origin says where an instruction of a rewritten module was before. Both are offsets in the code section.
type Origin struct{ New, Old uint32 }

// Preemptible returns m with checks at every loop's head and at the entry of every function that calls others: if the
// epoch is not zero, call yield. Between two checks there is only code without loops or calls. m must have been
// validated: what is out of range in it could come into range by the shift of indices.
//
// An error means that m cannot be rewritten and should be used as it is.
func (m *Module) Preemptible() (*Module, error) {
	if m.section(secCode) == nil || m.section(secType) == nil {
		return nil, fmt.Errorf("%w: no code", errLeave)
	}
	p := &preempter{m: m, track: m.Custom(".debug_line") != nil, funcs: shift{m.Imported[kindFunc]}, globals: shift{m.Imported[kindGlobal]}}
	// block block global.get epoch; br_if 0; br 1 end call yield end. As an `if` it would say the same, but
	// wazero then lays the call in the middle of the loop and jumps around it: 10 % more on tight loops.
	p.check = appendU32([]byte{opBlock, 0x40, opBlock, 0x40, opGlobalGet}, p.globals.at)
	p.check = append(p.check, opBrIf, 0, opBr, 1, opEnd, opCall)
	p.check = append(appendU32(p.check, p.funcs.at), opEnd)
	out := &Module{
		Imported: m.Imported, Types: m.Types + 1, Funcs: m.Funcs, Globals: m.Globals,
		Memory: m.Memory, OwnMemory: m.OwnMemory,
	}
	out.Imported[kindFunc]++
	out.Imported[kindGlobal]++
	imports := m.section(secImport) != nil
	for _, s := range m.Sections {
		if !imports && s.ID != secCustom && s.ID > secType {
			out.Sections = append(out.Sections, Section{ID: secImport, Body: p.imports([]byte{0})})
			imports = true
		}
		var err error
		if s.Body, err = p.section(s); err != nil {
			return nil, fmt.Errorf("%w: section %d: %w", errLeave, s.ID, err)
		}
		s.Off = 0
		out.Sections = append(out.Sections, s)
	}
	out.Origins = p.origins
	return out, nil
}

func (p *preempter) section(s Section) ([]byte, error) {
	switch s.ID {
	case secType:
		r := &reader{b: s.Body}
		n := r.u32()
		b := append(appendU32(make([]byte, 0, len(s.Body)+8), n+1), s.Body[r.pos:]...)
		return append(b, 0x60, 0, 0), nil
	case secImport:
		return p.imports(s.Body), nil
	case secTable, secGlobal, secElement, secData:
		return p.constants(s)
	case secExport:
		return p.exports(s.Body)
	case secStart:
		return appendU32(nil, p.funcs.of((&reader{b: s.Body}).u32())), nil
	case secCode:
		return p.code(s.Body)
	}
	return s.Body, nil
}

// imports appends the two imports. Being the last, they move only what the module itself defines.
func (p *preempter) imports(body []byte) []byte {
	r := &reader{b: body}
	n := r.u32()
	b := append(appendU32(make([]byte, 0, len(body)+64), n+2), body[r.pos:]...)
	b = appendName(appendName(b, YieldModule), Yield)
	b = appendU32(append(b, kindFunc), p.m.Types)
	b = appendName(appendName(b, EpochModule), Epoch)
	return append(b, kindGlobal, 0x7f, 1)
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }

func (p *preempter) exports(body []byte) ([]byte, error) {
	r := &reader{b: body}
	b := make([]byte, 0, len(body)+16)
	n := r.u32()
	b = appendU32(b, n)
	for i := uint32(0); i < n && r.ok(); i++ {
		start := r.pos
		r.name()
		kind := r.byte()
		b = append(b, body[start:r.pos]...)
		index := r.u32()
		switch kind {
		case kindFunc:
			index = p.funcs.of(index)
		case kindGlobal:
			index = p.globals.of(index)
		}
		b = appendU32(b, index)
	}
	return b, r.err
}

// patch is an index in a section that is to be written anew.
type patch struct {
	start, end int
	index      uint32
}

// constants rewrites the constant expressions and function lists of a section.
func (p *preempter) constants(s Section) ([]byte, error) {
	r := &reader{b: s.Body}
	var patches []patch
	inExpr := func(op byte, start, end int) {
		index := (&reader{b: s.Body, pos: start + 1}).u32()
		switch op {
		case opRefFunc:
			patches = append(patches, patch{start + 1, end, p.funcs.of(index)})
		case opGlobalGet:
			patches = append(patches, patch{start + 1, end, p.globals.of(index)})
		}
	}
	n := r.u32()
	for i := uint32(0); i < n && r.ok(); i++ {
		switch s.ID {
		case secTable:
			r.tableExpr(inExpr)
		case secGlobal:
			r.valType()
			r.byte()
			r.constExpr(inExpr)
		case secElement:
			r.elementExpr(inExpr, func(index uint32, start, end int) {
				patches = append(patches, patch{start, end, p.funcs.of(index)})
			})
		case secData:
			r.segmentExpr(inExpr)
		}
	}
	if !r.ok() {
		return nil, r.err
	}
	b := make([]byte, 0, len(s.Body)+len(patches))
	at := 0
	for _, c := range patches {
		b = append(b, s.Body[at:c.start]...)
		b = appendU32(b, c.index)
		at = c.end
	}
	return append(b, s.Body[at:]...), nil
}

func (p *preempter) code(body []byte) ([]byte, error) {
	r := &reader{b: body}
	n := r.u32()
	out := appendU32(make([]byte, 0, len(body)+len(body)/8), n)
	var buf []byte
	for i := uint32(0); i < n && r.ok(); i++ {
		locals, code := r.body()
		if !r.ok() {
			break
		}
		first := len(p.origins)
		var err error
		if buf, err = p.body(append(buf[:0], locals...), code); err != nil {
			return nil, fmt.Errorf("function %d: %w", i, err)
		}
		out = appendU32(out, uint32(len(buf)))
		for k := first; k < len(p.origins); k++ {
			p.origins[k].New += uint32(len(out))
			p.origins[k].Old += uint32(r.pos - len(code))
		}
		out = append(out, buf...)
	}
	return out, r.err
}

// body appends the rewritten instructions to b, which holds the locals.
func (p *preempter) body(b, code []byte) ([]byte, error) {
	entry := len(b)
	calls := false
	first := len(p.origins)
	err := walk(code, func(in *instr) {
		if p.track {
			p.origins = append(p.origins, Origin{uint32(len(b)), uint32(in.start)})
		}
		switch in.op {
		case opCall, opReturnCall, opRefFunc:
			b = append(b, code[in.start:in.indexAt]...)
			b = appendU32(b, p.funcs.of(in.index))
			calls = calls || in.op != opRefFunc
		case opGlobalGet, opGlobalSet:
			b = append(b, code[in.start:in.indexAt]...)
			b = appendU32(b, p.globals.of(in.index))
		case opLoop:
			b = append(b, code[in.start:in.end]...)
			b = append(b, p.check...)
		default:
			b = append(b, code[in.start:in.end]...)
			calls = calls || in.op == opCallIndirect || in.op == opReturnCallIn
		}
	})
	if err != nil || !calls {
		return b, err
	}
	for k := first; k < len(p.origins); k++ {
		p.origins[k].New += uint32(len(p.check))
	}
	b = append(b, p.check...)
	tail := len(b) - len(p.check)
	copy(b[entry+len(p.check):], b[entry:tail])
	copy(b[entry:], p.check)
	return b, nil
}
