// Package rewrite takes WebAssembly modules apart and puts them together changed.
package rewrite

import "errors"

// ErrBadModule says that a module is truncated, invalid, hostile, or needs what this build does not serve.
// No retry makes it good.
var ErrBadModule = errors.New("bad module")
