package rewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Grain is the unit that images are made of, in bytes: a WebAssembly page, which is also the largest page of
// the kernels served.
const Grain = 64 << 10

const (
	// maxRuns bounds how many mappings an image costs its engine.
	maxRuns = 256
	// An image may be sparse, but not so sparse that a small module becomes a big file.
	imageSlack  = 4 << 20
	imageFactor = 3
)

// Run is a stretch of linear memory that is not all zero. Offset and length are multiples of Grain.
type Run struct {
	Offset, Len uint64
	// Pos is where its bytes are in the image.
	Pos uint64
}

// Image is the initial content of a module's memory.
type Image struct {
	// Runs are in order and do not touch each other.
	Runs []Run
	// Bytes are the runs' bytes, end to end.
	Bytes []byte

	// rest is the data section that stays in the stub; empty means none.
	rest []byte
}

// Image applies the module's active data segments ahead of time. It returns nil if that is not possible or not
// worth it, and the segments must stay: when an offset is not constant or out of bounds (which traps when
// the module is instantiated), when memory is imported, or when the content is too scattered.
func (m *Module) Image() *Image {
	s := m.section(secData)
	if s == nil || !m.OwnMemory || m.Imported[kindMemory] != 0 {
		return nil
	}
	segments, total, ok := m.segments(s)
	if !ok {
		return nil
	}
	grains := map[uint64]bool{}
	limit := (total*imageFactor + imageSlack) / Grain
	for _, g := range segments {
		if !g.active || len(g.data) == 0 {
			continue
		}
		first, last := uint64(g.offset)/Grain, (uint64(g.offset)+uint64(len(g.data))-1)/Grain
		for i := first; i <= last; i++ {
			grains[i] = true
		}
		if uint64(len(grains)) > limit {
			return nil
		}
	}
	img := &Image{}
	img.layRuns(grains)
	if len(img.Runs) > maxRuns {
		return nil
	}
	for _, g := range segments {
		if g.active && len(g.data) > 0 {
			img.write(uint64(g.offset), g.data)
		}
	}
	img.rest = m.passive(segments)
	return img
}

// segments returns the data segments and how many bytes they have, and whether all active ones lie in bounds at
// constant offsets.
func (m *Module) segments(s *Section) (list []segment, total uint64, ok bool) {
	r := &reader{b: s.Body}
	n := r.u32()
	list = make([]segment, 0, n)
	for i := uint32(0); i < n && r.ok(); i++ {
		g := r.segment()
		if g.active && (!g.constant || uint64(g.offset)+uint64(len(g.data)) > m.Memory) {
			return nil, 0, false
		}
		total += uint64(len(g.data))
		list = append(list, g)
	}
	return list, total, r.ok()
}

func (img *Image) layRuns(grains map[uint64]bool) {
	order := make([]uint64, 0, len(grains))
	for i := range grains {
		order = append(order, i)
	}
	slices.Sort(order)
	for k, i := range order {
		if k > 0 && order[k-1] == i-1 {
			img.Runs[len(img.Runs)-1].Len += Grain
			continue
		}
		img.Runs = append(img.Runs, Run{Offset: i * Grain, Len: Grain, Pos: uint64(k) * Grain})
	}
	img.Bytes = make([]byte, len(order)*Grain)
}

// write puts data at an address of linear memory; its grains must have been laid.
func (img *Image) write(addr uint64, data []byte) {
	i, _ := slices.BinarySearchFunc(img.Runs, addr, func(r Run, a uint64) int {
		if r.Offset+r.Len <= a {
			return -1
		}
		return 1
	})
	r := img.Runs[i]
	copy(img.Bytes[r.Pos+addr-r.Offset:r.Pos+r.Len], data)
}

// passive returns a data section with the passive segments only. Active ones, which are spent after
// instantiation, become empty passive ones where code may name segments by number.
func (m *Module) passive(segments []segment) []byte {
	if m.section(secDataCount) == nil {
		return nil // without a count no instruction may name a segment
	}
	if !slices.ContainsFunc(segments, func(g segment) bool { return !g.active }) {
		// memory.init and data.drop on spent segments alone are of no use; only modules made to test
		// them do that, but they must get what they expect.
		if !m.namesData() {
			return nil
		}
	}
	b := appendU32(nil, uint32(len(segments)))
	for _, g := range segments {
		b = append(b, 1)
		if g.active {
			b = append(b, 0)
			continue
		}
		b = appendU32(b, uint32(len(g.data)))
		b = append(b, g.data...)
	}
	return b
}

// MarshalRuns encodes runs for storage.
func MarshalRuns(runs []Run) []byte {
	b := make([]byte, 0, 24*len(runs))
	for _, r := range runs {
		b = binary.LittleEndian.AppendUint64(b, r.Offset)
		b = binary.LittleEndian.AppendUint64(b, r.Len)
		b = binary.LittleEndian.AppendUint64(b, r.Pos)
	}
	return b
}

// UnmarshalRuns decodes runs, which must lie within an image of size bytes.
func UnmarshalRuns(b []byte, size int64) ([]Run, error) {
	if len(b)%24 != 0 {
		return nil, errors.New("read runs: odd length")
	}
	runs := make([]Run, 0, len(b)/24)
	le := binary.LittleEndian
	for ; len(b) > 0; b = b[24:] {
		r := Run{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])}
		if (r.Offset|r.Len|r.Pos)%Grain != 0 || r.Len > uint64(size) || r.Pos > uint64(size)-r.Len || r.Offset > 1<<32 || r.Offset+r.Len > 1<<32 {
			return nil, fmt.Errorf("read runs: %+v lies outside", r)
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// Inline returns a stub made for an image with the image's bytes as data segments, for memories that cannot be
// filled otherwise. Segments that the stub has keep their numbers.
func Inline(stub []byte, runs []Run, bytes []byte) ([]byte, error) {
	m, err := parse(stub)
	if err != nil {
		return nil, err
	}
	s := m.section(secData)
	if s == nil {
		m.Sections = append(m.Sections, Section{ID: secData, Body: []byte{0}})
		s = &m.Sections[len(m.Sections)-1]
	}
	r := &reader{b: s.Body}
	n := r.u32()
	b := appendU32(make([]byte, 0, len(s.Body)+len(bytes)+16*len(runs)), n+uint32(len(runs)))
	b = append(b, s.Body[r.pos:]...)
	for _, r := range runs {
		b = append(b, 0, 0x41)
		b = appendSigned(b, int64(int32(r.Offset)))
		b = append(b, 0x0b)
		b = appendU32(b, uint32(r.Len))
		b = append(b, bytes[r.Pos:r.Pos+r.Len]...)
	}
	s.Body = b
	return assemble(m.Sections), nil
}
