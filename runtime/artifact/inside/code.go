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
// more: the caller unmaps it. code must be executable, and a mapping of unix.Mmap too, for closing m unmaps it. m's
// runtime has compiled nothing else with code in it, and m has no instance yet.
//
// Wazero sums all code that it reads, 2 ms for 20 MB. This is how a file's code is mapped without a look at it.
//
// It relies on an engine that keeps its modules' code in the list sortedCompiledModules, and on a module's executable
// being taken from there whenever a function is called or its address looked up (internal/engine/wazevo/engine.go). The
// source map holds addresses, which move along.
func Replace(m wazero.CompiledModule, standIn, code []byte) error {
	bad := func(what string) error { return fmt.Errorf("replace code: %s: %w", what, ErrInternals) }
	modules := field(reflect.ValueOf(m), "compiledEngine", "sortedCompiledModules")
	if modules.Kind() != reflect.Slice || modules.Len() != 1 {
		return bad("not one module with code")
	}
	executable := field(modules.Index(0), "executables", "executable")
	addresses := field(modules.Index(0), "sourceMap", "executableOffsets")
	if !executable.IsValid() || executable.Type() != reflect.TypeFor[[]byte]() ||
		!addresses.IsValid() || addresses.Type() != reflect.TypeFor[[]uintptr]() {
		return bad("fields executable and executableOffsets")
	}
	if executable.Len() != len(standIn) || executable.UnsafePointer() != unsafe.Pointer(unsafe.SliceData(standIn)) {
		return bad("the code lies elsewhere")
	}
	*(*[]byte)(unsafe.Pointer(executable.UnsafeAddr())) = code
	moved := uintptr(unsafe.Pointer(unsafe.SliceData(code))) - uintptr(unsafe.Pointer(unsafe.SliceData(standIn)))
	sources := *(*[]uintptr)(unsafe.Pointer(addresses.UnsafeAddr()))
	for i := range sources {
		sources[i] += moved
	}
	return nil
}
