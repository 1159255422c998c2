package hostile

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Opcodes that the tests use; the WebAssembly specification, section 5.4.
const (
	opUnreachable = "\x00"
	opLoop        = "\x03\x40"
	opEnd         = "\x0b"
	opBr0         = "\x0c\x00"
	opReturn      = "\x0f"
	opDrop        = "\x1a"
	opLoad        = "\x28\x02\x00"
	opMemorySize  = "\x3f\x00"
	opMemoryGrow  = "\x40\x00"
	opAdd         = "\x6a"
	opAdd64       = "\x7c"
	opDiv         = "\x6d"
	opExtend      = "\xad"
	opWrap        = "\xa7"
	opTruncate    = "\xaa" // i32.trunc_f64_s
	opNaN         = "\x44\x00\x00\x00\x00\x00\x00\xf8\x7f"
	opTableGrow   = "\xfc\x0f\x00"
	opMemoryFill  = "\xfc\x0b\x00"
	opRefNull     = "\xd0\x70"
	opEq          = "\x46"
	opIf          = "\x04\x40"
	opElse        = "\x05"
	opIfI32       = "\x04\x7f"
	opEqz         = "\x45"
)

func leb(n uint32) string { return string(binary.AppendUvarint(nil, uint64(n))) }

// i32 is i32.const.
func i32(n int32) string {
	b := []byte{0x41}
	for {
		c := byte(n) & 0x7f
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return string(append(b, c))
		}
		b = append(b, c|0x80)
	}
}

func get(local uint32) string { return "\x20" + leb(local) }
func set(local uint32) string { return "\x21" + leb(local) }
func call(f uint32) string    { return "\x10" + leb(f) }
func tailCall(f uint32) string {
	return "\x12" + leb(f)
}
func callIndirect(typ uint32) string { return "\x11" + leb(typ) + "\x00" }

// vec is a vector of what is encoded already.
func vec(items ...string) string { return leb(uint32(len(items))) + strings.Join(items, "") }

func name(s string) string { return leb(uint32(len(s))) + s }

// Signatures as types of the module; every module has them all, in this order.
const (
	nothing    = iota // () -> ()
	unary             // (i32) -> i32
	exits             // (i32) -> ()
	dyadic            // (i32 i32) -> i32
	quaternary        // (i32 i32 i32 i32) -> i32
)

var signatures = []string{"\x60\x00\x00", "\x60\x01\x7f\x01\x7f", "\x60\x01\x7f\x00", "\x60\x02\x7f\x7f\x01\x7f", "\x60\x04\x7f\x7f\x7f\x7f\x01\x7f"}

// module is a Wasm module under construction. Functions are numbered from the imports on.
type module struct {
	imports, functions, bodies, exports []string
	memory, table, global               string
	elements, data                      []string
	start                               string
}

// imported adds a function import and returns its number; imports come first.
func (m *module) imported(from, what string, typ uint32) uint32 {
	m.imports = append(m.imports, name(from)+name(what)+"\x00"+leb(typ))
	return uint32(len(m.imports) - 1)
}

func (m *module) wasi(what string, typ uint32) uint32 {
	return m.imported("wasi_snapshot_preview1", what, typ)
}

// function adds a function. locals is a vector of local declarations, empty for none.
func (m *module) function(typ uint32, locals string, code ...string) uint32 {
	if locals == "" {
		locals = "\x00"
	}
	body := locals + strings.Join(code, "") + opEnd
	m.functions = append(m.functions, leb(typ))
	m.bodies = append(m.bodies, leb(uint32(len(body)))+body)
	return uint32(len(m.imports) + len(m.functions) - 1)
}

func (m *module) export(as string, f uint32) { m.exports = append(m.exports, name(as)+"\x00"+leb(f)) }

// pages sets the memory's limits and exports it.
func (m *module) pages(low, high uint32) *module {
	m.memory = "\x01" + leb(low) + leb(high)
	m.exports = append(m.exports, name("memory")+"\x02\x00")
	return m
}

func (m *module) bytes() []byte {
	var b strings.Builder
	b.WriteString("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body string) {
		b.WriteString(string([]byte{id}) + leb(uint32(len(body))) + body)
	}
	one := func(id byte, item string) {
		if item != "" {
			section(id, vec(item))
		}
	}
	section(1, vec(signatures...))
	section(2, vec(m.imports...))
	section(3, vec(m.functions...))
	one(4, m.table)
	one(5, m.memory)
	one(6, m.global)
	section(7, vec(m.exports...))
	if m.start != "" {
		section(8, m.start)
	}
	if len(m.elements) > 0 {
		section(9, vec(m.elements...))
	}
	section(10, vec(m.bodies...))
	if len(m.data) > 0 {
		section(11, vec(m.data...))
	}
	return []byte(b.String())
}

func moduleFile(t testing.TB, wasm []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guest.wasm")
	if err := os.WriteFile(path, wasm, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
