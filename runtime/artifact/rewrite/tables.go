package rewrite

// maxTableGrowth is how many entries all tables of a module together may grow by at run time. Tables lie in the engine's
// own memory, eight bytes for an entry, where no guest's memory limit counts them.
const maxTableGrowth = 1 << 20

// boundTables lowers the maximum of each of the module's own tables, so that table.grow fails at it as it may fail at any
// time. Limits that are not valid stay that.
func (m *Module) boundTables() error {
	s := m.section(secTable)
	if s == nil {
		return nil
	}
	r := &reader{b: s.Body}
	n := r.u32()
	if n == 0 {
		return r.err
	}
	b := appendU32(make([]byte, 0, len(s.Body)+5*int(n)), n)
	for range n {
		start := r.pos
		init := r.more() && r.b[r.pos] == 0x40
		if init {
			r.bytes(2)
		}
		r.valType()
		b = append(b, s.Body[start:r.pos]...)
		b = r.lowered(b, maxTableGrowth/n)
		start = r.pos
		if init {
			r.constExpr(nil)
		}
		if !r.ok() {
			return r.err
		}
		b = append(b, s.Body[start:r.pos]...)
	}
	s.Body = b
	return nil
}

// lowered copies limits to b with a maximum of at most growth above the minimum.
func (r *reader) lowered(b []byte, growth uint32) []byte {
	flag := r.byte()
	low := r.u32()
	high := low + growth // the minimum is bounded
	if flag&1 != 0 {
		high = min(high, r.u32())
	}
	return appendU32(appendU32(append(b, flag|1), low), high)
}
