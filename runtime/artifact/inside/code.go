package inside

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/tetratelabs/wazero"
)

// StandIn returns head, the part before the machine code of what Split cut, for n bytes of code instead of its own. n is
// positive.
func StandIn(head []byte, n int) []byte {
	b := append([]byte(nil), head[:len(head)-8]...)
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

// Replace gives m other machine code than what wazero read into standIn, which was a mapping of its own and is m's no
// more: the caller unmaps it. code must be executable, and a mapping too, by unix.Mmap, for closing m unmaps it. m's runtime has
// compiled nothing else with code in it, and m has no instance yet.
//
// Wazero sums all code that it reads, 2 ms for 20 MB. This is how a file's code is mapped without a look at it.
//
// It relies on an engine that keeps its modules' code in the list sortedCompiledModules, and on a module's executable
// being taken from there whenever a function is called or its address looked up (internal/engine/wazevo/engine.go). The
// source map holds addresses, which move along.
func Replace(m wazero.CompiledModule, standIn, code []byte) error {
	bad := func(what string) error { return fmt.Errorf("replace code: %s: %w", what, ErrInternals) }
	v := reflect.ValueOf(m)
	for _, field := range []string{"compiledEngine", "sortedCompiledModules"} {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return bad("no field " + field)
		}
		v = v.FieldByName(field)
	}
	if v.Kind() != reflect.Slice || v.Len() != 1 || v.Index(0).Kind() != reflect.Pointer {
		return bad("not one module with code")
	}
	compiled := v.Index(0).Elem()
	held, sources := compiled.FieldByName("executables"), compiled.FieldByName("sourceMap")
	if held.Kind() != reflect.Pointer || held.Elem().Kind() != reflect.Struct || sources.Kind() != reflect.Struct {
		return bad("fields executables and sourceMap")
	}
	executable, addresses := held.Elem().FieldByName("executable"), sources.FieldByName("executableOffsets")
	if !executable.IsValid() || executable.Type() != reflect.TypeFor[[]byte]() || !addresses.IsValid() || addresses.Type() != reflect.TypeFor[[]uintptr]() {
		return bad("fields executable and executableOffsets")
	}
	if executable.Len() != len(standIn) || executable.UnsafePointer() != unsafe.Pointer(unsafe.SliceData(standIn)) {
		return bad("the code lies elsewhere")
	}
	*(*[]byte)(unsafe.Pointer(executable.UnsafeAddr())) = code
	moved := uintptr(unsafe.Pointer(unsafe.SliceData(code))) - uintptr(unsafe.Pointer(unsafe.SliceData(standIn)))
	for i := range *(*[]uintptr)(unsafe.Pointer(addresses.UnsafeAddr())) {
		(*(*[]uintptr)(unsafe.Pointer(addresses.UnsafeAddr())))[i] += moved
	}
	return nil
}
