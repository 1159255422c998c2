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
	// check is a check, rare one for where it is seldom passed.
	check, rare []byte
	// params counts the parameters of each of the module's own functions.
	params []uint32
	// bulk is set once a function needs the helpers for large fills and copies.
	bulk bool
	// goes says that Go's compiler made the module.
	goes bool
	// out is where function bodies are made.
	out []byte
	// origins are kept only if track is set: they take 8 bytes for each instruction.
	track   bool
	origins []Origin
}

// Origin says where an instruction of a rewritten module was before. Both are offsets in the code section.
type Origin struct{ New, Old uint32 }

// Preemptible returns m with checks: if the epoch is not zero, call yield. They are where loops and calls need them to
// bound how much code runs between two checks; see body. The start function becomes an export, Start, for the host to
// call. m must have been validated: what is out of range in it could come into range by the shift of indices.
//
// An error means that m cannot be rewritten and should be used as it is.
func (m *Module) Preemptible() (*Module, error) {
	code := m.section(secCode)
	if code == nil || m.section(secType) == nil {
		return nil, fmt.Errorf("%w: no code", errLeave)
	}
	p := &preempter{m: m, track: m.Custom(".debug_line") != nil, funcs: shift{m.Imported[kindFunc]}, globals: shift{m.Imported[kindGlobal]}}
	p.goes = m.Custom("go:buildid") != nil
	p.rare, p.check = p.epochChecks()
	var err error
	if p.params, err = m.functionParams(); err != nil {
		return nil, fmt.Errorf("%w: %w", errLeave, err)
	}
	bodies, err := p.code(code.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: section %d: %w", errLeave, secCode, err)
	}
	out := &Module{
		Imported: m.Imported, Types: m.Types + 1, Funcs: m.Funcs, Globals: m.Globals,
		Memory: m.Memory, OwnMemory: m.OwnMemory, Origins: p.origins,
	}
	out.Imported[kindFunc]++
	out.Imported[kindGlobal]++
	if p.bulk {
		out.Types++
		out.Funcs += uint32(len(helpers))
		out.Added = map[uint32]string{p.helper(helperFill): "memory.fill", p.helper(helperCopy): "memory.copy"}
	}
	imports, exports := m.section(secImport) != nil, m.section(secExport) != nil
	for _, s := range m.Sections {
		if !imports && s.ID != secCustom && s.ID > secType {
			out.Sections = append(out.Sections, Section{ID: secImport, Body: p.imports([]byte{0})})
			imports = true
		}
		switch s.ID {
		case secStart:
			if exports {
				continue
			}
			s = Section{ID: secExport, Body: p.start([]byte{0})}
		case secCode:
			s.Body = bodies
		default:
			if s.Body, err = p.section(s); err != nil {
				return nil, fmt.Errorf("%w: section %d: %w", errLeave, s.ID, err)
			}
		}
		s.Off = 0
		out.Sections = append(out.Sections, s)
	}
	return out, nil
}

func (p *preempter) section(s Section) ([]byte, error) {
	switch s.ID {
	case secType:
		added := []string{"\x60\x00\x00"}
		if p.bulk {
			added = append(added, helperType)
		}
		return appended(s.Body, added...), nil
	case secImport:
		return p.imports(s.Body), nil
	case secFunction:
		if !p.bulk {
			return s.Body, nil
		}
		t := string(appendU32(nil, p.helperType()))
		return appended(s.Body, t, t), nil
	case secTable, secGlobal, secElement, secData:
		return p.constants(s)
	case secExport:
		return p.exports(s.Body)
	}
	return s.Body, nil
}

// appended returns a section that is a vector with items more.
func appended(body []byte, items ...string) []byte {
	r := &reader{b: body}
	n := r.u32()
	b := append(appendU32(make([]byte, 0, len(body)+16), n+uint32(len(items))), body[r.pos:]...)
	for _, item := range items {
		b = append(b, item...)
	}
	return b
}

// imports appends the two imports. Being the last, they move only what the module itself defines.
func (p *preempter) imports(body []byte) []byte {
	yield := appendU32(append(appendName(appendName(nil, YieldModule), Yield), kindFunc), p.m.Types)
	epoch := append(appendName(appendName(nil, EpochModule), Epoch), kindGlobal, 0x7f, 1)
	return appended(body, string(yield), string(epoch))
}

// start adds the start function, if there is one, to an export section.
func (p *preempter) start(exports []byte) []byte {
	s := p.m.section(secStart)
	if s == nil {
		return exports
	}
	item := append(appendName(nil, Start), kindFunc)
	return appended(exports, string(appendU32(item, p.funcs.of((&reader{b: s.Body}).u32()))))
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
	return p.start(b), r.err
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

// epochChecks make a check: call yield if the epoch is not zero. Both say the same, and neither is an `if`, because of
// how the compiler lays out their code: the first is faster where it is passed seldom, in a nested loop, the second where
// it is passed each time.
func (p *preempter) epochChecks() (rare, often []byte) {
	rare = append(appendU32([]byte{opBlock, 0x40, opGlobalGet}, p.globals.at), opI32Eqz, opBrIf, 0, opCall)
	often = appendU32([]byte{opBlock, 0x40, opBlock, 0x40, opGlobalGet}, p.globals.at)
	often = append(often, opBrIf, 0, opBr, 1, opEnd, opCall)
	return append(appendU32(rare, p.funcs.at), opEnd), append(appendU32(often, p.funcs.at), opEnd)
}

// code rewrites the code section.
func (p *preempter) code(section []byte) ([]byte, error) {
	r := &reader{b: section}
	n := r.u32()
	bodies := make([]byte, 0, len(section)+len(section)/8)
	var buf []byte
	for i := uint32(0); i < n && r.ok(); i++ {
		locals, code := r.body()
		if !r.ok() {
			break
		}
		first := len(p.origins)
		var err error
		if buf, err = p.body(buf[:0], i, locals, code); err != nil {
			return nil, fmt.Errorf("function %d: %w", i, err)
		}
		bodies = appendU32(bodies, uint32(len(buf)))
		for k := first; k < len(p.origins); k++ {
			p.origins[k].New += uint32(len(bodies))
			p.origins[k].Old += uint32(r.pos - len(code))
		}
		bodies = append(bodies, buf...)
	}
	if !r.ok() {
		return nil, r.err
	}
	if p.bulk {
		for _, make := range helpers {
			body := make(p)
			bodies = append(appendU32(bodies, uint32(len(body)+1)), 0) // no locals
			bodies = append(bodies, body...)
			n++
		}
	}
	count := appendU32(nil, n)
	for k := range p.origins {
		p.origins[k].New += uint32(len(count))
	}
	return append(count, bodies...), nil
}

// functionParams counts the parameters of each of the module's own functions.
func (m *Module) functionParams() ([]uint32, error) {
	s := m.section(secFunction)
	if s == nil {
		return nil, nil
	}
	r := &reader{b: s.Body}
	n := r.u32()
	params := make([]uint32, 0, n)
	for i := uint32(0); i < n && r.ok(); i++ {
		t := r.u32()
		if uint64(t) >= uint64(len(m.params)) {
			return nil, fmt.Errorf("function %d has no type", i)
		}
		params = append(params, m.params[t])
	}
	return params, r.err
}
