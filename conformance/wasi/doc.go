// Package wasi runs the preview1 programs of WebAssembly/wasi-testsuite: against runtime/wasi in this process,
// through hachi run, and as images through ctr run.
//
// The suite is not part of this repository. Check out its branch prod/testsuite-base, which carries the
// built programs, and name the directory:
//
//	go test ./conformance/wasi -suite DIR
//
// or set HACHI_WASI_SUITE. adapter.py is for the suite's own runner. Every program has to pass, without a list of
// exceptions; as images all but four, which a container's PATH or root fails by its being there.
package wasi
