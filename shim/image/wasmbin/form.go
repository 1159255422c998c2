// Package wasmbin reads the outside of WebAssembly binaries: which form a file has, and a module's
// imports, exports and sections. It validates no code; the engine's compiler does that.
//
// Section numbers are those of the WebAssembly core specification 2.0, chapter 5 (binary format).
package wasmbin

// Form is what the first bytes of a file say it is.
type Form int

const (
	// Other is none of the below.
	Other Form = iota
	// Module is a core WebAssembly module, version 1.
	Module
	// Component is a component-model binary (WASI 0.2 and later).
	Component
	// Future has WebAssembly's magic and an unknown version.
	Future
	// ELF is a native program.
	ELF
	// Script starts with "#!".
	Script
)

// HeadSize is how many bytes Sniff looks at.
const HeadSize = 8

// Sniff tells a file's form by its first HeadSize bytes; head may be shorter.
func Sniff(head []byte) Form {
	has := func(prefix string) bool { return len(head) >= len(prefix) && string(head[:len(prefix)]) == prefix }
	switch {
	case has("\x00asm\x01\x00\x00\x00"):
		return Module
	case has("\x00asm") && len(head) >= 8 && head[6] == 1 && head[7] == 0: // layer 1 in the upper half of the version field
		return Component
	case has("\x00asm"):
		return Future
	case has("\x7fELF"):
		return ELF
	case has("#!"):
		return Script
	}
	return Other
}

// IsWasm says whether the file carries WebAssembly's magic, in whatever version.
func (f Form) IsWasm() bool { return f == Module || f == Component || f == Future }

// String names the form for messages.
func (f Form) String() string {
	switch f {
	case Module:
		return "WebAssembly module"
	case Component:
		return "WebAssembly component"
	case Future:
		return "WebAssembly binary of an unknown version"
	case ELF:
		return "ELF program"
	case Script:
		return "script"
	}
	return "file of an unknown form"
}
