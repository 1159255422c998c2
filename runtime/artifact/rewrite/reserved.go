package rewrite

import "strings"

// Names of the modules and their members that a preemptible module imports.
const (
	// EpochModule exports Epoch, a mutable i32 global: not zero when the guest should yield.
	EpochModule = "hachi:epoch"
	Epoch       = "epoch"
	// YieldModule exports Yield, a function without parameters or results.
	YieldModule = "hachi:yield"
	Yield       = "yield"
)

// isReserved says whether an import's module name belongs to the rewriter. A guest that imported from it could
// stop its own epoch.
func isReserved(module []byte) bool { return strings.HasPrefix(string(module), "hachi:") }
