package rewrite

import (
	"cmp"
	"fmt"
	"slices"
)

// Names returns what the module calls its functions, by index: the names of its name section, else those of its exports,
// and for imports where they come from.
func (m *Module) Names() map[uint32]string {
	names := map[uint32]string{}
	if s := m.section(secImport); s != nil {
		r := &reader{b: s.Body}
		n := r.u32()
		next := uint32(0)
		for i := uint32(0); i < n && r.ok(); i++ {
			at := *r
			name := fmt.Sprintf("%s.%s", at.name(), at.name())
			r.importItem(func(kind byte, _ uint32) {
				if kind == kindFunc {
					names[next] = name
					next++
				}
			})
		}
	}
	if s := m.section(secExport); s != nil {
		r := &reader{b: s.Body}
		n := r.u32()
		for i := uint32(0); i < n && r.ok(); i++ {
			name := r.name()
			kind, index := r.byte(), uint32(0)
			if index = r.u32(); kind == kindFunc && r.ok() {
				names[index] = string(name)
			}
		}
	}
	r := &reader{b: m.Custom("name")}
	for r.more() {
		id := r.byte()
		sub := &reader{b: r.bytes(uint64(r.u32()))}
		if id != 1 || !r.ok() {
			continue
		}
		n := sub.count("names", maxFuncs, 2)
		for i := uint32(0); i < n && sub.ok(); i++ {
			index := sub.u32()
			if name := sub.name(); sub.ok() {
				names[index] = string(name)
			}
		}
	}
	return names
}

// NewIndex returns where a function of m is in its preemptible form.
func (m *Module) NewIndex(function uint32) uint32 { return shift{m.Imported[kindFunc]}.of(function) }

// Origin returns where the instruction at an offset of m's code section was before m was rewritten. What was inserted
// counts as the instruction after it.
func (m *Module) Origin(at uint64) uint64 {
	i, _ := slices.BinarySearchFunc(m.Origins, at, func(o Origin, a uint64) int { return cmp.Compare(uint64(o.New), a) })
	if i == len(m.Origins) {
		return at
	}
	return uint64(m.Origins[i].Old)
}
