package rewrite

// Stub returns the module without what only its machine code needs: all function bodies trap, custom sections
// are gone. Imports, exports, types, tables, globals and start function are the module's.
//
// Without img the data section stays. With it, active segments are gone, because img holds what they
// would have written; passive ones keep their place among as many empty ones if the code refers to segments by number.
func (m *Module) Stub(img *Image) []byte {
	var out []Section
	for _, s := range m.Sections {
		switch s.ID {
		case secCustom, secDataCount:
			continue // nothing is left that needs the count ahead of the data
		case secCode:
			s.Body = trapping(s.Body)
		case secData:
			if img != nil {
				s.Body = img.rest
			}
			if len(s.Body) == 0 {
				continue
			}
		}
		out = append(out, s)
	}
	return assemble(out)
}

// Stripped returns the module without its custom sections. Code offsets do not change.
func (m *Module) Stripped() []byte {
	var out []Section
	for _, s := range m.Sections {
		if s.ID != secCustom {
			out = append(out, s)
		}
	}
	return assemble(out)
}

// trapping returns a code section of the same length whose functions are all `unreachable`.
func trapping(code []byte) []byte {
	n := (&reader{b: code}).u32()
	b := appendU32(make([]byte, 0, 5+4*int(n)), n)
	for range n {
		b = append(b, 3, 0, 0x00, 0x0b)
	}
	return b
}

// WithCustom returns a module with a custom section added at its end.
func WithCustom(wasm []byte, name string, body []byte) []byte {
	s := append(appendName(nil, name), body...)
	wasm = appendU32(append(wasm, secCustom), uint32(len(s)))
	return append(wasm, s...)
}
