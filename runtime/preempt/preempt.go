// Package preempt lets Go interrupt guests that compute without ever calling the host.
//
// Native guest code cannot be preempted by Go's scheduler. A guest that spins would hold up the garbage collector,
// and with it every goroutine of the process, for as long as it likes. Code made by rewrite.Preemptible therefore tests a
// word, the epoch, at loops and calls, and calls back when it is not zero. The word is set every few milliseconds by a
// kernel thread that Go does not know of, because a goroutine could not run just when it is needed.
//
// The thread sleeps while the guest does: when it finds the epoch still set from the last tick, the guest has executed
// nothing since, and the thread waits until the guest's next call back. An idle guest costs no wake-ups.
package preempt

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
)

// DefaultPeriod is how long a guest computes undisturbed. It bounds how late a guest is killed and how long the garbage
// collector waits for it. A tick costs the guest below 1 us.
const DefaultPeriod = 2 * time.Millisecond

// Options configure a Ticker.
type Options struct {
	// Period is the time between ticks, from 100 us to 1 s; 0 means DefaultPeriod.
	Period time.Duration
	// Yield is called on the guest's goroutine, in the middle of the guest, at every tick that finds it computing. It may
	// sleep, which throttles the guest, or panic with a *sys.ExitError, which ends it. The module is the caller. nil means
	// that Go's scheduler just gets its chance.
	Yield func(ctx context.Context, m api.Module)
	// Sample, if not nil, is called before Yield with the guest's stack, which is valid until it returns. Walking it costs
	// some microseconds a tick.
	Sample func(experimental.StackIterator)
}

// Ticker interrupts the preemptible guests of one runtime. Safe for concurrent use.
type Ticker struct {
	yield  func(ctx context.Context, m api.Module)
	yields atomic.Uint64
	// cell is the epoch. It lies in the epoch module's memory and keeps that from being collected. nil when
	// ticks are not possible.
	cell   *uint32
	thread *thread

	close sync.Once
}

// live keeps running tickers, and what their threads write to, from being collected when their owner just drops the
// runtime.
var live sync.Map

// Attach puts into rt the two modules that preemptible guests import, and starts ticking. It is called once per
// runtime, before the guest is instantiated; closing the runtime ends the thread.
//
// When ticks are not possible (another wazero, a seccomp filter without clone) the modules are there all the same, so
// guests run, but nothing interrupts them: Attach returns a Ticker and an error then. Without a Ticker the runtime is
// of no use to a preemptible guest.
func Attach(ctx context.Context, rt wazero.Runtime, o Options) (*Ticker, error) {
	if o.Period == 0 {
		o.Period = DefaultPeriod
	}
	if o.Period < 100*time.Microsecond || o.Period > time.Second {
		return nil, fmt.Errorf("attach preemption: period %v is not within 100us and 1s", o.Period)
	}
	t := &Ticker{yield: o.Yield}
	host := ctx
	if o.Sample != nil {
		host = experimental.WithFunctionListenerFactory(ctx, sampler(o.Sample))
	}
	_, err := rt.NewHostModuleBuilder(rewrite.YieldModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(t.onTick), nil, nil).Export(rewrite.Yield).Instantiate(host)
	if err != nil {
		return nil, fmt.Errorf("attach preemption: %w", err)
	}
	closed := experimental.CloseNotifyFunc(func(context.Context, uint32) { t.Close() })
	m, err := rt.InstantiateWithConfig(experimental.WithCloseNotifier(ctx, closed), epochModule,
		wazero.NewModuleConfig().WithName(rewrite.EpochModule))
	if err != nil {
		return nil, fmt.Errorf("attach preemption: %w", err)
	}
	if t.cell, err = inside.GlobalCell(m.ExportedGlobal(rewrite.Epoch)); err != nil {
		return t, fmt.Errorf("attach preemption: %w", err)
	}
	if t.thread, err = startThread(t.cell, o.Period); err != nil {
		return t, fmt.Errorf("attach preemption: %w", err)
	}
	live.Store(t, nil)
	return t, nil
}

// onTick is the guest's call back.
func (t *Ticker) onTick(ctx context.Context, m api.Module, _ []uint64) {
	if t.cell != nil {
		atomic.StoreUint32(t.cell, 0)
	}
	t.yields.Add(1)
	if t.thread != nil {
		t.thread.wake()
	}
	if t.yield != nil {
		t.yield(ctx, m)
	}
}

// Poke makes a computing guest yield at its next check, without waiting for the tick.
func (t *Ticker) Poke() {
	if t.cell != nil {
		atomic.StoreUint32(t.cell, 1)
	}
}

// Yields returns how often guests have called back.
func (t *Ticker) Yields() uint64 { return t.yields.Load() }

// Close stops ticking and waits for the thread's end. The runtime calls it when it is
// closed.
func (t *Ticker) Close() {
	t.close.Do(func() {
		if t.thread != nil {
			t.thread.stop()
		}
		live.Delete(t)
	})
}

// epochModule exports one mutable i32 global with value 0.
var epochModule = []byte("\x00asm\x01\x00\x00\x00\x06\x06\x01\x7f\x01\x41\x00\x0b\x07\x09\x01\x05epoch\x03\x00")
