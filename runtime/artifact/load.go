package artifact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
)

// LoadOptions say what to load.
type LoadOptions struct {
	// Module is the original module; it is read only when there is no usable artefact.
	Module *os.File
	// Artifact is the module's artefact; nil means compile in place. It must stay open as long as
	// instances are made.
	Artifact *os.File
	// Memory, if set, is told how to fill the guest's memory: its Instantiate must create the instances then.
	// It is the cheaper way, because the content is mapped. Without it the module carries its data.
	Memory *memory.Allocator
	// Preempt says how often the guest is interrupted and what happens then. The guest can only be interrupted if
	// it was compiled so, which all but very strange modules are.
	Preempt preempt.Options
	// RuntimeConfig is the rest of the runtime's configuration; nil means wazero's. Its features, cache,
	// debug information and close-on-context-done are set by Load, because code depends on them.
	RuntimeConfig wazero.RuntimeConfig
	// Log receives the warning that an artefact cannot be used; nil means slog.Default.
	Log *slog.Logger
}

// Load returns a new runtime and the module compiled in it, ready to instantiate. An artefact that is
// stale, damaged or of no use to this wazero costs a warning and the time to compile in place. A
// module that cannot be used is ErrBadModule. The caller closes the runtime.
func Load(ctx context.Context, o LoadOptions) (wazero.Runtime, wazero.CompiledModule, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.RuntimeConfig == nil {
		o.RuntimeConfig = wazero.NewRuntimeConfig()
	}
	o.RuntimeConfig = o.RuntimeConfig.WithCoreFeatures(Features).WithCloseOnContextDone(false).WithDebugInfoEnabled(true)
	if o.Artifact != nil {
		rt, cm, err := loadArtifact(ctx, o)
		if err == nil {
			return rt, cm, nil
		}
		o.Log.Warn("artefact cannot be loaded: compiling in place", "error", err)
	}
	return loadPlain(ctx, o)
}

// StartFunction is what has to be called before all else of an instance's; nil if there is nothing. A module's own start
// function is not run when Load's modules are instantiated, so that the host chooses its stack. Modules that cannot be
// preempted keep theirs.
func StartFunction(m api.Module) api.Function { return m.ExportedFunction(rewrite.Start) }

// Inert tells whether instantiating m runs none of its code. When in doubt it is false.
func Inert(m wazero.CompiledModule) bool {
	starts, err := inside.Starts(m)
	return err == nil && !starts
}

func loadPlain(ctx context.Context, o LoadOptions) (wazero.Runtime, wazero.CompiledModule, error) {
	if o.Module == nil {
		return nil, nil, errors.New("load: neither a usable artefact nor a module")
	}
	wasm, err := readModule(o.Module)
	if err != nil {
		return nil, nil, fmt.Errorf("load: %w", err)
	}
	m, err := rewrite.Parse(wasm)
	if err != nil {
		return nil, nil, fmt.Errorf("load: %w", err)
	}
	code, preemptible := m.Stripped(), false
	if validate(ctx, code) == nil {
		if p, err := m.Preemptible(); err == nil {
			code, preemptible = p.Stripped(), true
		}
	}
	rt := wazero.NewRuntimeWithConfig(ctx, o.RuntimeConfig)
	cm, err := rt.CompileModule(experimental.WithCompilationWorkers(ctx, workers), code)
	if err != nil {
		err = badModule(ctx, err)
	} else if preemptible {
		err = attach(ctx, rt, o)
	}
	if err != nil {
		rt.Close(ctx)
		return nil, nil, fmt.Errorf("load: %w", err)
	}
	return rt, cm, nil
}

// attach makes a runtime fit for preemptible code. Without ticks it is fit too, only less good.
func attach(ctx context.Context, rt wazero.Runtime, o LoadOptions) error {
	t, err := preempt.Attach(ctx, rt, o.Preempt)
	if err != nil && t != nil {
		o.Log.Warn("guests cannot be preempted: one that spins stops the whole process", "error", err)
		return nil
	}
	return err
}

func loadArtifact(ctx context.Context, o LoadOptions) (wazero.Runtime, wazero.CompiledModule, error) {
	st, err := o.Artifact.Stat()
	if err != nil {
		return nil, nil, err
	}
	h, err := layout.ReadHeader(o.Artifact, st.Size())
	if err != nil {
		return nil, nil, err
	}
	stub, err := h.Read(o.Artifact, layout.Stub)
	if err != nil {
		return nil, nil, err
	}
	p := &player{file: o.Artifact, h: h}
	if p.head, err = h.Read(o.Artifact, layout.Head); err != nil {
		return nil, nil, err
	}
	if p.tail, err = h.Read(o.Artifact, layout.Tail); err != nil {
		return nil, nil, err
	}
	code := h.Span(layout.Code)
	p.lazy = code.Len > 0 && mappable(o.Artifact, code.Off)
	img, err := openImage(o.Artifact, h)
	if err != nil {
		return nil, nil, err
	}
	if img != nil && o.Memory == nil {
		if stub, err = img.inline(stub); err != nil {
			return nil, nil, err
		}
	}
	cache, err := inside.Plant(p)
	if err != nil {
		return nil, nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, o.RuntimeConfig.WithCompilationCache(cache))
	cm, err := rt.CompileModule(ctx, stub)
	if err == nil {
		err = p.settle(cm)
	}
	if err == nil && h.Flags&layout.Preemptible != 0 {
		err = attach(ctx, rt, o)
	}
	if err != nil {
		rt.Close(ctx)
		return nil, nil, err
	}
	if img != nil && o.Memory != nil {
		o.Memory.SetImage(img.fill)
	}
	return rt, cm, nil
}
