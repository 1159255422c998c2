package artifact

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/artifact/symbol"
)

// workers is how many goroutines compile one module. Two nearly halve the time; more are of little use
// next to the guests of a busy node.
const workers = 2

// Compile reads a module, validates it and writes its artefact to out, an empty file. It needs nothing but
// its two descriptors and memory (25 times the size of a big module, never below 60 MB), so it can run in the tightest
// jail. A module that cannot be used is ErrBadModule.
func Compile(ctx context.Context, module, out *os.File) error {
	wasm, err := readModule(module)
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	if err := compile(ctx, wasm, out); err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	return nil
}

func compile(ctx context.Context, wasm []byte, out io.WriterAt) error {
	original, err := rewrite.Parse(wasm)
	if err != nil {
		return err
	}
	table := &symbol.Table{}
	var marks []symbol.Section
	if original.Custom(".debug_line") != nil {
		// What cannot be read is not worth refusing a module for: its traces have no lines then.
		if table.Lines, table.Files, err = symbol.Lines(original.Custom); err == nil && len(table.Lines) > 0 {
			marks = symbol.Markers()
		}
	}
	m, entry, flags, err := translate(ctx, original, marks)
	if err != nil {
		return err
	}
	table.Names = names(original, m)
	head, code, tail, err := inside.Split(entry)
	if err != nil {
		return err
	}
	tail, lines, err := inside.MapSources(tail, func(at uint64) uint64 { return m.Origin(at) })
	if err != nil {
		return err
	}
	if !lines {
		marks, table.Lines, table.Files = nil, nil, nil
	}
	type section struct {
		kind  layout.Kind
		bytes []byte
	}
	sections := []section{{layout.Head, head}, {layout.Tail, tail}, {layout.Code, code}}
	img := m.Image()
	if img != nil {
		flags |= layout.DataImage
		sections = append(sections, section{layout.Runs, rewrite.MarshalRuns(img.Runs)}, section{layout.Image, img.Bytes})
	}
	sections = append(sections, section{layout.Stub, marked(m.Stub(img), marks)}, section{layout.Symbols, table.Marshal()})
	w := layout.NewWriter(out, sha256.Sum256(wasm))
	for _, s := range sections {
		if err := w.Add(s.kind, s.bytes); err != nil {
			return err
		}
	}
	return w.Finish(flags)
}

// names returns the functions' names by the indices that they have in run, which is the original or its preemptible form.
func names(original, run *rewrite.Module) map[uint32]string {
	old := original.Names()
	if run == original {
		return old
	}
	moved := make(map[uint32]string, len(old)+len(run.Added))
	for i, name := range old {
		moved[original.NewIndex(i)] = name
	}
	for i, name := range run.Added {
		moved[i] = name
	}
	return moved
}

func marked(wasm []byte, marks []symbol.Section) []byte {
	for _, s := range marks {
		wasm = rewrite.WithCustom(wasm, s.Name, s.Body)
	}
	return wasm
}

// translate validates a module and returns the machine code of its preemptible form, that form, and flags that say so.
// If there is no such form the module itself is compiled.
func translate(ctx context.Context, m *rewrite.Module, marks []symbol.Section) (*rewrite.Module, []byte, uint32, error) {
	// Custom sections are not validated, and are the part of wazero's decoder that trusts most.
	original := m.Stripped()
	// The original must be valid by itself: rewriting moves indices, which could make a wrong one right.
	if err := validate(ctx, original); err != nil {
		return nil, nil, 0, err
	}
	if len(original) > 1<<20 {
		runtime.GC() // the decoded module is many times its size, and is about to be made again
	}
	if p, err := m.Preemptible(); err == nil {
		if entry, err := machineCode(ctx, marked(p.Stripped(), marks)); err == nil {
			return p, entry, layout.Preemptible, nil
		} else if !errors.Is(err, ErrBadModule) {
			return nil, nil, 0, err
		}
	}
	entry, err := machineCode(ctx, marked(original, marks))
	return m, entry, 0, err
}

// errValid is how validate stops wazero before it compiles: the cache is asked after validation.
var errValid = errors.New("valid")

type validated struct{}

func (validated) Get([32]byte) (io.ReadCloser, bool, error) { return nil, false, errValid }
func (validated) Add([32]byte, io.Reader) error             { return nil }
func (validated) Delete([32]byte) error                     { return nil }

func validate(ctx context.Context, wasm []byte) error {
	cache, err := inside.Plant(validated{})
	if err != nil {
		return err
	}
	defer cache.Close(ctx)
	rt := wazero.NewRuntimeWithConfig(ctx, compilerConfig().WithCompilationCache(cache))
	defer rt.Close(ctx)
	_, err = rt.CompileModule(ctx, wasm)
	switch {
	case errors.Is(err, errValid):
		return nil
	case err == nil:
		return fmt.Errorf("cache not asked: %w", inside.ErrInternals)
	}
	return badModule(ctx, err)
}

// machineCode returns a module's code as wazero serializes it.
func machineCode(ctx context.Context, wasm []byte) ([]byte, error) {
	rec := new(recorder)
	cache, err := inside.Plant(rec)
	if err != nil {
		return nil, err
	}
	defer cache.Close(ctx)
	rt := wazero.NewRuntimeWithConfig(ctx, compilerConfig().WithCompilationCache(cache))
	defer rt.Close(ctx)
	cm, err := rt.CompileModule(experimental.WithCompilationWorkers(ctx, workers), wasm)
	if err != nil {
		return nil, badModule(ctx, err)
	}
	defer cm.Close(ctx)
	if rec.entry == nil {
		return nil, fmt.Errorf("no code recorded: %w", inside.ErrInternals)
	}
	return rec.entry, nil
}

// compilerConfig holds every option that shapes machine code; worker and engine must agree on it. Debug information is
// enabled for our own markers: the guest's is gone by then.
func compilerConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithCoreFeatures(Features).WithDebugInfoEnabled(true)
}

// badModule wraps a compiler's complaint, unless it is only that it was interrupted.
func badModule(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w (rebuild it for WebAssembly 2.0 and WASI preview 1)", ErrBadModule, err)
}

// readModule reads a whole module from the file's start, wherever its offset is.
func readModule(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	if st.Size() > MaxModule {
		return nil, fmt.Errorf("%w: %d bytes exceed %d (strip its debug sections)", ErrBadModule, st.Size(), MaxModule)
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read module: %w", err)
	}
	return b[:n], nil
}
