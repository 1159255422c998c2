// Package memory gives guests their linear memory: reserved address space outside of Go's heap, of
// which only the pages up to the guest's current size are accessible.
//
// A memory's address never changes while its reservation lasts, growing costs one mprotect, and the garbage
// collector neither scans nor counts it. All memories of one Allocator share a limit that can be
// moved while guests run; a guest that asks for more gets memory.grow's ordinary failure, -1.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// ErrLimit says that a module's initial memory does not fit the limit or the machine.
var ErrLimit = errors.New("not enough memory")

// Unlimited is the limit that only WebAssembly itself (4 GiB per memory) and the machine set.
const Unlimited = ^uint64(0)

// Image fills a memory's first bytes when it is created, before the guest runs. It gets the memory at its
// initial size, all zero, starting at a page boundary; it may map files over it.
type Image func(mem []byte) error

// Allocator is a wazero memory allocator. Safe for concurrent use.
type Allocator struct {
	mu      sync.Mutex
	limit   uint64    // guarded by mu
	used    uint64    // guarded by mu; the sum of all memories' sizes
	peak    uint64    // guarded by mu; the highest used
	refused time.Time // guarded by mu; zero before the first refusal
	image   Image     // guarded by mu
}

var _ experimental.MemoryAllocator = (*Allocator)(nil)

// New returns an allocator whose memories may have limit bytes together; 0 means Unlimited.
func New(limit uint64) *Allocator {
	a := new(Allocator)
	a.SetLimit(limit)
	return a
}

// SetLimit moves the limit, in bytes; 0 means Unlimited. Memory that guests already have is theirs: a limit
// below that only refuses all further growth.
func (a *Allocator) SetLimit(limit uint64) {
	if limit == 0 {
		limit = Unlimited
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = limit
}

// SetImage sets what fills the memories that are created from now on; nil means nothing.
func (a *Allocator) SetImage(i Image) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.image = i
}

// Refused returns when memory was last refused because of the limit, or because the kernel had none; the zero time says
// never.
func (a *Allocator) Refused() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}

// Usage returns the size of all memories now and at most so far, in bytes. What a guest has not
// touched counts too.
func (a *Allocator) Usage() (now, peak uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, a.peak
}

// Instantiate instantiates a module whose memory comes from a. It returns ErrLimit where wazero alone
// would panic: when the module's initial memory is refused.
func (a *Allocator) Instantiate(ctx context.Context, rt wazero.Runtime, m wazero.CompiledModule, c wazero.ModuleConfig) (mod api.Module, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *refusal:
			mod, err = nil, fmt.Errorf("instantiate: %w", r.err)
		default:
			panic(r)
		}
	}()
	return rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, a), m, c)
}

// refusal is the panic that carries an error through wazero to Instantiate.
type refusal struct{ err error }

// Allocate implements experimental.MemoryAllocator: it reserves max bytes of address space, or as much
// as there is.
func (a *Allocator) Allocate(_, max uint64) experimental.LinearMemory {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := &linear{owner: a, max: max, image: a.image}
	m.reserve()
	return m
}

// take accounts for growth from one size to another, or refuses it.
func (a *Allocator) take(from, to uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	want := a.used - from + to
	if to > from && want > a.limit {
		a.refused = time.Now()
		return fmt.Errorf("%d bytes exceed the limit of %d: %w (raise the memory limit)", want, a.limit, ErrLimit)
	}
	a.used = want
	a.peak = max(a.peak, want)
	return nil
}

// giveBack undoes take after the kernel refused.
func (a *Allocator) giveBack(from, to uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= to - from
	a.refused = time.Now()
}

var pageSize = uint64(unix.Getpagesize())

func roundUp(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }
