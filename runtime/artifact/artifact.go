// Package artifact turns modules into machine code once, and loads that code in milliseconds ever after.
//
// Compile runs in a short-lived jailed process: it validates the original module, compiles it and
// writes one file, whose form is package layout's. Package store keeps such files by content. Load runs in
// an engine: it hands the file's code to wazero, without validating or reading most of it again.
//
//	store, err := artifact.Open(artifact.Options{Compile: startWorker})
//	file, err := store.Get(ctx, digest, module)                                  // in the shim
//	rt, guest, err := artifact.Load(ctx, artifact.LoadOptions{Module: module, Artifact: file}) // in the engine
//
// An artefact is trusted as code: it must come from a store's directory or from Compile itself.
package artifact

import (
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/artifact/store"
)

// ErrBadModule says that a module is truncated, hostile or unsupported. The message around it says what to do.
var ErrBadModule = rewrite.ErrBadModule

// Options, Store and Open are package store's, which a process that never loads should import
// instead: it does not bring wazero with it.
type (
	Options = store.Options
	Store   = store.Store
)

// Open prepares a store; see store.Open.
func Open(o Options) (*Store, error) { return store.Open(o) }

// MaxModule is the largest module accepted, in bytes.
const MaxModule = 256 << 20

// Features are what guests may use. Code compiled with other features does not fit, so Load sets them
// whatever its RuntimeConfig says.
const Features = api.CoreFeaturesV2 | experimental.CoreFeaturesThreads | experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling
