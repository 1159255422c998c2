package rewrite

// scan walks over one section, so that its counts are known to be honest, and notes what m counts.
func (m *Module) scan(id byte, r *reader) {
	switch id {
	case secType:
		m.scanTypes(r)
	case secImport:
		n := r.count("imports", maxImports, 4)
		for i := uint32(0); i < n && r.ok(); i++ {
			m.reserved = r.importItem(func(kind byte, _ uint32) { m.Imported[kind]++ }) || m.reserved
		}
	case secFunction:
		m.Funcs = r.count("functions", maxFuncs, 1)
		for i := uint32(0); i < m.Funcs && r.ok(); i++ {
			r.u32()
		}
	case secTable:
		n := r.count("tables", maxTables, 3)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.table()
		}
	case secMemory:
		n := r.count("memories", 1, 2)
		for i := uint32(0); i < n && r.ok(); i++ {
			m.Memory, m.OwnMemory = uint64(r.limits())<<16, true
		}
	case secTag:
		n := r.count("tags", maxTags, 2)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.byte()
			r.u32()
		}
	case secGlobal:
		m.Globals = r.count("globals", maxGlobals, 3)
		for i := uint32(0); i < m.Globals && r.ok(); i++ {
			r.valType()
			r.byte()
			r.constExpr(nil)
		}
	case secExport:
		n := r.count("exports", maxExports, 3)
		for i := uint32(0); i < n && r.ok(); i++ {
			m.reserved = isReserved(r.name()) || m.reserved
			r.byte()
			r.u32()
		}
	case secStart:
		r.u32()
	case secElement:
		n := r.count("elements", maxElements, 2)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.elementExpr(nil, nil)
		}
	case secDataCount:
		r.u32()
	case secData:
		n := r.count("data segments", maxData, 2)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.segmentExpr(nil)
		}
	case secCode:
		n := r.count("function bodies", maxFuncs, 2)
		for i := uint32(0); i < n && r.ok(); i++ {
			r.body()
		}
	}
}

func (m *Module) scanTypes(r *reader) {
	one := func(form byte) {
		if form != 0x60 {
			r.fail("type form %#x", form)
		}
		for list := range 2 {
			n := r.count("parameters or results", maxArity, 1)
			if list == 0 {
				m.params = append(m.params, n)
			}
			for i := uint32(0); i < n && r.ok(); i++ {
				r.valType()
			}
		}
		if m.Types++; m.Types > maxTypes {
			r.fail("more than %d types", maxTypes)
		}
	}
	n := r.count("types", maxTypes, 1)
	for i := uint32(0); i < n && r.ok(); i++ {
		form := r.byte()
		if form != 0x4e {
			one(form)
			continue
		}
		group := r.count("types", maxTypes, 3)
		for j := uint32(0); j < group && r.ok(); j++ {
			one(r.byte())
		}
	}
}

// importItem reads one import, calls f with its kind and, for tables, its minimum, and says whether its module is one
// of the rewriter's own.
func (r *reader) importItem(f func(kind byte, min uint32)) (reserved bool) {
	reserved = isReserved(r.name())
	r.name()
	kind := r.byte()
	var minimum uint32
	switch kind {
	case kindFunc:
		r.u32()
	case kindTable:
		minimum = r.table()
	case kindMemory:
		r.limits()
	case kindGlobal:
		r.valType()
		r.byte()
	case kindTag:
		r.byte()
		r.u32()
	default:
		r.fail("import kind %#x", kind)
	}
	if r.ok() {
		f(kind, minimum)
	}
	return reserved
}

// elementExpr reads one element segment. inExpr, if not nil, gets every instruction of its constant expressions,
// inList every function index of a plain list, with the position of its bytes.
func (r *reader) elementExpr(inExpr func(op byte, start, end int), inList func(index uint32, start, end int)) {
	flags := r.u32()
	if flags > 7 {
		r.fail("element flags %#x", flags)
	}
	if flags&1 == 0 {
		if flags&2 != 0 {
			r.u32()
		}
		r.constExpr(inExpr)
	}
	switch {
	case flags&3 == 0:
	case flags&4 != 0:
		r.valType()
	default:
		r.byte()
	}
	n := r.count("element items", maxTableSize, 1)
	for i := uint32(0); i < n && r.ok(); i++ {
		if flags&4 != 0 {
			r.constExpr(inExpr)
			continue
		}
		start := r.pos
		index := r.u32()
		if inList != nil && r.ok() {
			inList(index, start, r.pos)
		}
	}
}

// segment is one data segment.
type segment struct {
	active bool
	// offset is valid if constant; otherwise the offset is an expression of another kind.
	constant bool
	offset   uint32
	data     []byte
}

func (r *reader) segment() segment { return r.segmentExpr(nil) }

// segmentExpr calls f, if not nil, for the instructions of the offset.
func (r *reader) segmentExpr(f func(op byte, start, end int)) (s segment) {
	flags := r.u32()
	switch flags {
	case 0, 2:
		if flags == 2 && r.u32() != 0 {
			r.fail("data for a second memory")
		}
		s.active = true
		ops := 0
		start := r.pos
		r.constExpr(func(op byte, start, end int) {
			ops++
			s.constant = ops == 1 && op == 0x41
			if f != nil {
				f(op, start, end)
			}
		})
		if s.constant {
			s.offset = uint32((&reader{b: r.b, pos: start + 1}).signed(5))
		}
	case 1:
	default:
		r.fail("data flags %#x", flags)
	}
	s.data = r.bytes(uint64(r.u32()))
	return s
}

// body reads one function body and returns its declarations of locals and its instructions.
func (r *reader) body() (locals, code []byte) {
	size := r.u32()
	if size > maxBody {
		r.fail("function body of %d bytes exceeds %d", size, maxBody)
	}
	b := &reader{b: r.bytes(uint64(size))}
	n := b.count("locals", maxLocals, 2)
	total := uint64(0)
	for i := uint32(0); i < n && b.ok(); i++ {
		total += uint64(b.u32())
		b.valType()
	}
	if total > maxLocals {
		b.fail("%d locals exceed %d", total, maxLocals)
	}
	if r.ok() && !b.ok() {
		r.err = b.err
	}
	return b.b[:b.pos], b.b[b.pos:]
}
