// Package wasi runs the preview1 programs of WebAssembly/wasi-testsuite: against runtime/wasi in this process, and
// through hachi run.
//
// The suite is not part of this repository. Check out its branch prod/testsuite-base, which carries the
// built programs, and name the directory:
//
//	go test ./conformance/wasi -suite DIR
//
// or set HACHI_WASI_SUITE. adapter.py is for the suite's own runner. There is no list of exceptions: every program has to pass.
package wasi
