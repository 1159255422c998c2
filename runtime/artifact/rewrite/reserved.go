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
	// Start is the export that a module's start function becomes. The host calls it first.
	Start = "hachi:start"
)

// isReserved says whether a name belongs to the rewriter: an import's module, from which a guest could stop its own
// epoch, or an export.
func isReserved(name []byte) bool { return strings.HasPrefix(string(name), "hachi:") }
