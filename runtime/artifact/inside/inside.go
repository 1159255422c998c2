// Package inside is all that hachi knows of wazero's insides.
//
// Each function checks what it finds and fails with ErrInternals if it is not what was expected, so
// that a caller can go a slower way that needs none of this. inside_test.go says what to read when wazero is
// upgraded.
package inside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unsafe"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

// ErrInternals says that wazero does not look like the version this package was written for.
var ErrInternals = errors.New("wazero's internals differ from " + layout.Wazero)

// field goes from v along fields, through pointers and interfaces; the zero Value if there is no way.
func field(v reflect.Value, names ...string) reflect.Value {
	for _, name := range names {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = v.FieldByName(name)
	}
	return v
}

// FileCache is wazero's internal interface filecache.Cache. What passes through it is written by
// serializeCompiledModule and read by deserializeCompiledModule (internal/engine/wazevo/engine_cache.go): magic,
// version, function offsets, code length, code, CRC-32C if there is code, source map, catch clauses. The code is read by
// one Read whose buffer is the new executable mapping itself, then summed, then made executable.
type FileCache interface {
	Get(key [32]byte) (io.ReadCloser, bool, error)
	Add(key [32]byte, r io.Reader) error
	Delete(key [32]byte) error
}

// Plant returns a compilation cache that asks fc. It relies on wazero.NewCompilationCache returning a pointer to
// a struct with an interface field named fileCache (cache.go).
func Plant(fc FileCache) (wazero.CompilationCache, error) {
	cc := wazero.NewCompilationCache()
	v := reflect.ValueOf(cc)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("plant cache: %T: %w", cc, ErrInternals)
	}
	f := v.Elem().FieldByName("fileCache")
	if !f.IsValid() || f.Kind() != reflect.Interface || !reflect.TypeOf(fc).Implements(f.Type()) {
		return nil, fmt.Errorf("plant cache: field fileCache: %w", ErrInternals)
	}
	reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Set(reflect.ValueOf(fc))
	return cc, nil
}

// Split cuts what passed through FileCache.Add at its machine code. Only its lengths and sum are looked at. The
// checksum that follows the code is in neither part.
func Split(entry []byte) (head, code, tail []byte, err error) {
	const fixed = 6 + 1 // magic, length of version
	bad := fmt.Errorf("split compiled code: %w", ErrInternals)
	if len(entry) < fixed || string(entry[:6]) != "WAZEVO" {
		return nil, nil, nil, bad
	}
	n := fixed + int(entry[6])
	if len(entry) < n+4 {
		return nil, nil, nil, bad
	}
	funcs := int64(binary.LittleEndian.Uint32(entry[n:]))
	n += 4
	if int64(len(entry)-n) < 8*funcs+8 {
		return nil, nil, nil, bad
	}
	n += int(8 * funcs)
	size := binary.LittleEndian.Uint64(entry[n:])
	n += 8
	if size > uint64(len(entry)-n) {
		return nil, nil, nil, bad
	}
	head, code, tail = entry[:n], entry[n:n+int(size)], entry[n+int(size):]
	if size > 0 {
		if len(tail) < 4 || binary.LittleEndian.Uint32(tail) != layout.Sum(code) {
			return nil, nil, nil, bad
		}
		tail = tail[4:]
	}
	return head, code, tail, nil
}

// MaxSources bounds a module's source map, in entries of 16 bytes; wazero reads it whole when code is loaded.
const MaxSources = 512 << 10

// MapSources rewrites the source map in a tail that Split returned: every offset in the code section that was compiled
// becomes what at says. A map that is too large is left out, and mapped is false.
func MapSources(tail []byte, at func(offset uint64) uint64) (out []byte, mapped bool, err error) {
	bad := fmt.Errorf("read source map: %w", ErrInternals)
	if len(tail) < 1 || tail[0] > 1 {
		return nil, false, bad
	}
	if tail[0] == 0 {
		return tail, false, nil
	}
	if len(tail) < 9 {
		return nil, false, bad
	}
	n := binary.LittleEndian.Uint64(tail[1:])
	if n > uint64(len(tail)-9)/16 {
		return nil, false, bad
	}
	if n > MaxSources {
		return append([]byte{0}, tail[9+16*n:]...), false, nil
	}
	out = append([]byte(nil), tail...)
	for p := out[9 : 9+16*n]; len(p) > 0; p = p[16:] {
		binary.LittleEndian.PutUint64(p, at(binary.LittleEndian.Uint64(p)))
	}
	return out, true, nil
}

// GlobalCell returns where compiled code keeps the value of an exported mutable i32 global: in its module's context
// (moduleEngine.opaque, internal/engine/wazevo/module_engine.go). It lies in Go's heap, does not move, and lives as
// long as the module's instance. The global's value is changed meanwhile and restored.
func GlobalCell(g api.Global) (cell *uint32, err error) {
	m, ok := g.(api.MutableGlobal)
	if !ok || g.Type() != api.ValueTypeI32 {
		return nil, fmt.Errorf("find global: not a mutable i32: %w", ErrInternals)
	}
	defer func() {
		if r := recover(); r != nil {
			cell, err = nil, fmt.Errorf("find global: %v: %w", r, ErrInternals)
		}
	}()
	old := m.Get()
	defer m.Set(old)
	v := reflect.ValueOf(g)
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	// mutableGlobal{g *GlobalInstance}, GlobalInstance{Me ModuleEngine}, moduleEngine{opaque []byte}
	opaque := v.FieldByName("g").Elem().FieldByName("Me").Elem().Elem().FieldByName("opaque")
	if opaque.Kind() != reflect.Slice || opaque.Type().Elem().Kind() != reflect.Uint8 {
		return nil, fmt.Errorf("find global: field opaque: %w", ErrInternals)
	}
	context := unsafe.Slice((*byte)(opaque.UnsafePointer()), opaque.Len())
	for off := 0; off+8 <= len(context); off += 8 {
		at := (*uint32)(unsafe.Pointer(&context[off]))
		if isCell(m, at) {
			return at, nil
		}
	}
	return nil, fmt.Errorf("find global: its value is not in the module's context: %w", ErrInternals)
}

// isCell compares memory with what wazero says, for values that nothing else has.
func isCell(m api.MutableGlobal, at *uint32) bool {
	for _, v := range []uint32{0x5eadbeef, 0x01234567, 0xa5a5a5a5, 0} {
		if m.Set(uint64(v)); *at != v {
			return false
		}
	}
	// The other direction is only tried on what behaved like the cell, because it writes.
	*at = 0x7e57ce11
	return m.Get() == 0x7e57ce11
}
