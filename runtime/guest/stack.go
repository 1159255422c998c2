package guest

import (
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
)

// stackSize is how much stack a guest's native code has, in bytes: sixteen times what browsers give, and small enough
// that the trap at its end comes before the container runs out of memory.
const stackSize = 16 << 20

// reservation is the address space around it; see inside.UseStack.
const reservation = (inside.StackCeiling + stackSize) &^ (stackSize - 1)

// withStack runs f's code on a stack outside of Go's heap, of which only what was touched takes memory. Where that cannot
// be had, under a small RLIMIT_AS or in a module that catches exceptions, f keeps the one that wazero grows for it. The
// returned function releases the stack; f must not be called after it.
func withStack(f api.Function) (release func()) {
	none := func() {}
	b, err := unix.Mmap(-1, 0, reservation, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return none
	}
	release = func() { _ = unix.Munmap(b) } // it fails for bad arguments only
	usable := b[len(b)-stackSize:]
	// Best effort, for kernels with transparent huge pages set to "always": a guest that waits needs a page or two.
	_ = unix.Madvise(usable, unix.MADV_NOHUGEPAGE)
	if unix.Mprotect(usable, unix.PROT_READ|unix.PROT_WRITE) != nil || inside.UseStack(f, b, stackSize) != nil {
		release()
		return none
	}
	return release
}
