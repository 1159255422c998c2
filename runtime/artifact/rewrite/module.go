package rewrite

import (
	"bytes"
	"fmt"
)

// Section IDs of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

// Limits on what a module may ask of its compiler. They are far above what toolchains emit, at or above those
// of the JavaScript API where it has one, and keep hostile counts from becoming allocations.
const (
	maxTypes     = 100_000
	maxFuncs     = 1_000_000
	maxImports   = 100_000
	maxExports   = 100_000
	maxGlobals   = 1_000_000
	maxTags      = 100_000
	maxTables    = 1_000
	maxTableSize = 10_000_000 // of all tables together
	maxElements  = 1_000_000
	maxData      = 1_000_000
	maxArity     = 1_000
	maxLocals    = 50_000
	maxBody      = 16 << 20
	// maxNames bounds functions times exports, which wazero walks when it names functions.
	maxNames = 1 << 30
)

// Section is one section of a module. Body is a part of the module's bytes.
type Section struct {
	ID   byte
	Name string // of a custom section
	Body []byte
	// Off is where Body begins in the module.
	Off int
}

// Module is a module cut into sections, with its index spaces counted. Parse only makes sure that it can be
// taken apart within bounds; whether it is valid is for the compiler to say.
type Module struct {
	Sections []Section
	// Imported counts the imports by kind: functions, tables, memories, globals, tags.
	Imported [5]uint32
	// Types, Funcs and Globals count the module's own.
	Types, Funcs, Globals uint32
	// Memory is the initial size of the module's own memory in bytes; OwnMemory says if it has one.
	Memory    uint64
	OwnMemory bool
	// Origins are a rewritten module's, in order, if the original had DWARF.
	Origins []Origin
	// Added names the functions that a rewritten module has and the original has not, by index.
	Added map[uint32]string

	// params counts the parameters of each type.
	params []uint32
	// reserved says that the module uses a name that belongs to the rewriter.
	reserved bool
}

// Kinds of imports and exports.
const (
	kindFunc = iota
	kindTable
	kindMemory
	kindGlobal
	kindTag
)

// Parse takes a guest's module apart. Its errors are ErrBadModule.
func Parse(wasm []byte) (*Module, error) {
	m, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	if m.reserved {
		return nil, fmt.Errorf("%w: imports from a module or exports a name that begins with hachi:, which is reserved (rename it)", ErrBadModule)
	}
	if err := m.bound(); err != nil {
		return nil, err
	}
	if err := m.boundTables(); err != nil {
		return nil, fmt.Errorf("%w: tables: %w", ErrBadModule, err)
	}
	return m, nil
}

func parse(wasm []byte) (*Module, error) {
	if len(wasm) < 8 || string(wasm[:4]) != "\x00asm" {
		if text := bytes.TrimLeft(wasm, " \t\r\n"); bytes.HasPrefix(text, []byte("(module")) || bytes.HasPrefix(text, []byte("(component")) {
			return nil, fmt.Errorf("%w: WebAssembly in its text form (turn it into a binary: wat2wasm)", ErrBadModule)
		}
		return nil, fmt.Errorf("%w: not a WebAssembly module (the file must start with \\0asm)", ErrBadModule)
	}
	switch string(wasm[4:8]) {
	case "\x01\x00\x00\x00":
	case "\x0d\x00\x01\x00":
		return nil, fmt.Errorf("%w: a component, not a core module (build it for wasip1)", ErrBadModule)
	default:
		return nil, fmt.Errorf("%w: binary version % x", ErrBadModule, wasm[4:8])
	}
	m := new(Module)
	r := &reader{b: wasm, pos: 8}
	var seen [secTag + 1]bool
	for r.more() {
		s := Section{ID: r.byte()}
		size := r.u32()
		s.Off = r.pos
		s.Body = r.bytes(uint64(size))
		if !r.ok() {
			return nil, fmt.Errorf("%w: section %d: %w (the file is damaged or cut short)", ErrBadModule, s.ID, r.err)
		}
		if int(s.ID) >= len(seen) || (seen[s.ID] && s.ID != secCustom) {
			return nil, fmt.Errorf("%w: section %d is unknown or repeated", ErrBadModule, s.ID)
		}
		seen[s.ID] = true
		body := &reader{b: s.Body}
		if s.ID == secCustom {
			s.Name = string(body.name())
		} else {
			m.scan(s.ID, body)
			if body.ok() && body.rest() > 0 {
				body.fail("%d bytes too many", body.rest())
			}
		}
		if !body.ok() {
			return nil, fmt.Errorf("%w: section %d: %w", ErrBadModule, s.ID, body.err)
		}
		m.Sections = append(m.Sections, s)
	}
	if !r.ok() {
		return nil, fmt.Errorf("%w: %w", ErrBadModule, r.err)
	}
	return m, nil
}

// bound checks what spans sections.
func (m *Module) bound() error {
	funcs := uint64(m.Funcs) + uint64(m.Imported[kindFunc])
	if funcs > maxFuncs {
		return fmt.Errorf("%w: %d functions exceed %d", ErrBadModule, funcs, maxFuncs)
	}
	if s := m.section(secExport); s != nil {
		if n := uint64((&reader{b: s.Body}).u32()); n*funcs > maxNames {
			return fmt.Errorf("%w: %d exports of %d functions (export less)", ErrBadModule, n, funcs)
		}
	}
	var tables uint64
	for _, id := range []byte{secImport, secTable} {
		if s := m.section(id); s != nil {
			tables += tableSizes(s)
		}
	}
	if tables > maxTableSize {
		return fmt.Errorf("%w: tables of %d entries exceed %d", ErrBadModule, tables, maxTableSize)
	}
	return m.nesting()
}

func tableSizes(s *Section) (sum uint64) {
	r := &reader{b: s.Body}
	n := r.u32()
	for range n {
		if s.ID == secTable {
			sum += uint64(r.table())
			continue
		}
		r.importItem(func(kind byte, min uint32) {
			if kind == kindTable {
				sum += uint64(min)
			}
		})
	}
	return sum
}

// section returns the only section with this id, or nil.
func (m *Module) section(id byte) *Section {
	for i := range m.Sections {
		if m.Sections[i].ID == id {
			return &m.Sections[i]
		}
	}
	return nil
}

// Custom returns the body of the first custom section with the name, without its name; nil if there is none.
func (m *Module) Custom(name string) []byte {
	for _, s := range m.Sections {
		if s.ID == secCustom && s.Name == name {
			r := &reader{b: s.Body}
			r.name()
			return s.Body[r.pos:]
		}
	}
	return nil
}

// assemble puts sections together into a module.
func assemble(sections []Section) []byte {
	n := 8
	for _, s := range sections {
		n += len(s.Body) + 6
	}
	b := append(make([]byte, 0, n), "\x00asm\x01\x00\x00\x00"...)
	for _, s := range sections {
		b = append(b, s.ID)
		b = appendU32(b, uint32(len(s.Body)))
		b = append(b, s.Body...)
	}
	return b
}
