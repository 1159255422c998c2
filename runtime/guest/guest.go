// Package guest is the engine's side of a container: it loads one Wasm module, runs it and says how it
// ended.
package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
	"github.com/hachi-run/hachi/runtime/wasi"
	"github.com/hachi-run/hachi/runtime/wire"
)

// Guest is one loaded module. Load makes it, Prepare saves Run some time, Run runs it once, Close releases it. Stop and
// SetMemory may be called from any goroutine at any time.
type Guest struct {
	name string
	// module and artifact stay open for the image of the guest's memory and for the names in a trap's trace.
	module, artifact *os.File
	rt               wazero.Runtime
	code             wazero.CompiledModule
	system           *wasi.System
	memory           *memory.Allocator
	profiler         *profiler  // nil without a profile
	instance         api.Module // nil before Prepare, or if that was not possible

	mu      sync.Mutex
	late    *time.Timer   // guarded by mu: interrupts the guest; nil before Stop
	due     time.Time     // guarded by mu: when late fires
	stopped chan struct{} // closed by the first Stop
	signal  uint32        // its exit code, set before stopped is closed
	// ending is the exit code with which the guest ends as soon as it yields; 0 before its interruption.
	ending  atomic.Uint32
	overdue chan struct{} // closed when an interrupted guest did not notice
}

// Options say what to load. All are required, but Files.Artifact, Listeners and Profile.
type Options struct {
	Config *wire.Config
	// Files and Listeners become the guest's, which closes them.
	wire.Files
	Listeners []*os.File
	// Profile, if not nil, gets a CPU profile of the guest when Run ends.
	Profile *os.File
}

// Load reads, compiles or maps, and links the module that o describes, with the process's own stdio as
// the guest's. The process should be in its jail by now. Errors are the user's to read.
func Load(ctx context.Context, o Options) (*Guest, error) {
	c := o.Config
	g := &Guest{name: c.Module.Name, memory: memory.New(c.Memory), stopped: make(chan struct{}), overdue: make(chan struct{}),
		module: o.Module, artifact: o.Artifact, profiler: newProfiler(o.Profile)}
	defer closeAll(o.Listeners) // the system has duplicates
	var err error
	g.rt, g.code, err = artifact.Load(ctx, artifact.LoadOptions{
		Module: g.module, Artifact: g.artifact, Memory: g.memory, Preempt: preempt.Options{Yield: g.yield, Sample: g.profiler.sampler()},
	})
	if err == nil {
		err = g.link(ctx, c, o.Listeners)
	}
	if err != nil {
		g.Close(ctx)
		return nil, fmt.Errorf("load %s: %w", c.Module.Name, brief(err))
	}
	return g, nil
}

// longest is how much of an error is kept, in bytes. A module chooses the names in it.
const longest = 2 << 10

// brief is err, or the beginning of what it says if that is long.
func brief(err error) error {
	if s := err.Error(); len(s) > longest {
		return errors.New(s[:longest] + "...")
	}
	return err
}

// Prepare does what Run would do first and nobody sees. It is called by Run's caller, while there is nothing else to do.
func (g *Guest) Prepare(ctx context.Context) {
	if !artifact.Inert(g.code) {
		return
	}
	// Run tries again and says what is wrong.
	if m, err := g.instantiate(ctx); err == nil {
		g.instance = m
	}
}

func (g *Guest) instantiate(ctx context.Context) (api.Module, error) {
	return g.memory.Instantiate(ctx, g.rt, g.code, moduleConfig())
}

// Run runs the guest to its end, or until it is plain that it does not notice that it was stopped; the process should
// end then. A trap's stack trace goes to the guest's stderr. It is called once.
func (g *Guest) Run(ctx context.Context) wire.Exit {
	ended := make(chan error, 1)
	go func() { ended <- g.call(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-g.overdue:
		err = sys.NewExitError(g.signal)
	}
	if err := g.profiler.finish(g.module, g.artifact); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", g.name, err)
	}
	exit := wire.Exit{}
	var exited *sys.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exited):
		exit.Code = exited.ExitCode()
	default:
		exit.Code = trapCode
		fmt.Fprintf(os.Stderr, "%s: %s\n", g.name, g.trace(err))
	}
	// Who ends because it was told to does not die of a refusal that it survived, and neither does who went on for long.
	exit.OOM = exit.Code != 0 && g.ending.Load() == 0 && time.Since(g.memory.Refused()) < lastGasp
	return exit
}

// lastGasp is how soon after it was refused memory a guest ends if it ends because of that. Allocators give up at once;
// to say so, and to unwind, takes some of them a while, the more so when the CPU is throttled.
const lastGasp = 2 * time.Second

// trapCode is the exit code of a guest that trapped: 128 and SIGABRT, as abort(3) gives.
const trapCode = 128 + uint32(syscall.SIGABRT)

// trace gives a trap's frames their function names, and where the module has DWARF their source lines.
func (g *Guest) trace(trap error) string {
	symbols, err := artifact.Symbols(g.module, g.artifact)
	if err != nil {
		return trap.Error() // with the functions' numbers
	}
	return symbols.Resolve(trap.Error())
}

func (g *Guest) call(ctx context.Context) error {
	if g.instance == nil {
		m, err := g.instantiate(ctx)
		if err != nil {
			return err
		}
		g.instance = m
	}
	for _, f := range []api.Function{artifact.StartFunction(g.instance), g.instance.ExportedFunction("_start")} {
		if f == nil {
			continue
		}
		if err := onStack(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func onStack(ctx context.Context, f api.Function) error {
	defer withStack(f)()
	_, err := f.Call(ctx)
	return err
}

// yield is where the guest is interrupted while it computes.
func (g *Guest) yield(ctx context.Context, m api.Module) {
	if code := g.ending.Load(); code != 0 {
		_ = m.CloseWithExitCode(ctx, code) // its error is about close hooks, of which there are none
		panic(sys.NewExitError(code))
	}
}

// SetMemory moves the ceiling of the guest's linear memory, in bytes; 0 removes it.
func (g *Guest) SetMemory(limit uint64) { g.memory.SetLimit(limit) }

// Close releases what Load took.
func (g *Guest) Close(ctx context.Context) {
	if g.system != nil {
		_ = g.system.Close()
	}
	if g.rt != nil {
		_ = g.rt.Close(ctx)
	}
	g.module.Close()
	if g.artifact != nil {
		g.artifact.Close()
	}
}
