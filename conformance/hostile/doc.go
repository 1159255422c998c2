// Package hostile runs guests that mean harm through `hachi run` and package engine: each has to end within its bound,
// with the documented exit code, within bounded memory, and without disturbing a well-behaved neighbour.
//
// The guests are C programs in testdata and modules assembled by the tests themselves, where a compiler would not
// make what is wanted.
package hostile
