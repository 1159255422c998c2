package inside

import (
	"fmt"
	"reflect"

	"github.com/tetratelabs/wazero"
)

// Import kinds; the WebAssembly specification, section 5.5.5.
const (
	ImportFunction = iota
	ImportTable
	ImportMemory
	ImportGlobal
	ImportTag
)

// Import is one import of a module.
type Import struct {
	Kind         byte
	Module, Name string
}

// Imports lists all that a module imports, of which wazero's own methods tell functions and memories only. It relies
// on a compiledModule's field module and a Module's ImportSection (config.go, internal/wasm/module.go).
func Imports(m wazero.CompiledModule) ([]Import, error) {
	v := field(reflect.ValueOf(m), "module", "ImportSection")
	if v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("list imports: no list: %w", ErrInternals)
	}
	var all []Import
	for i := range v.Len() {
		kind, module, name := v.Index(i).FieldByName("Type"), v.Index(i).FieldByName("Module"), v.Index(i).FieldByName("Name")
		if kind.Kind() != reflect.Uint8 || module.Kind() != reflect.String || name.Kind() != reflect.String {
			return nil, fmt.Errorf("list imports: no kind and names: %w", ErrInternals)
		}
		all = append(all, Import{byte(kind.Uint()), module.String(), name.String()})
	}
	return all, nil
}

// Starts tells whether a module has a start function, which runs when it is instantiated. It relies on a Module's
// StartSection, an index or nil.
func Starts(m wazero.CompiledModule) (bool, error) {
	v := field(reflect.ValueOf(m), "module", "StartSection")
	if v.Kind() != reflect.Pointer {
		return false, fmt.Errorf("find start function: no index: %w", ErrInternals)
	}
	return !v.IsNil(), nil
}
