package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/memory"
)

// goKernels are those of gokernels, with rounds that take about a millisecond.
var goKernels = []kernel{{"sort", 20}, {"fib", 22}, {"maps", 150}, {"format", 400}, {"json", 50}, {"request", 60}}

// code compares Go's code as hachi has it compiled, with checks and ticking, to wazero's own without.
func (l *lab) code(ctx context.Context) ([]row, error) {
	p := program{file: l.path("gokernels.wasm")}
	p.artifact = p.file + ".artifact"
	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-o", p.file, ".")
	build.Dir = filepath.Join(l.top, "conformance", "engine", "gokernels")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	if _, err := l.compile(ctx, p); err != nil {
		return nil, err
	}
	wasm, err := os.ReadFile(p.file)
	if err != nil {
		return nil, err
	}
	art, err := os.Open(p.artifact)
	if err != nil {
		return nil, err
	}
	defer art.Close()
	config := wazero.NewModuleConfig().WithStartFunctions("_initialize").WithSysNanotime().WithSysWalltime()

	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(artifact.Features))
	defer rt.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return nil, err
	}
	theirs, err := rt.InstantiateWithConfig(ctx, wasm, config)
	if err != nil {
		return nil, err
	}
	alloc := memory.New(0)
	rt2, code, err := artifact.Load(ctx, artifact.LoadOptions{Artifact: art, Memory: alloc, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, err
	}
	defer rt2.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt2); err != nil {
		return nil, err
	}
	ours, err := alloc.Instantiate(ctx, rt2, code, config)
	if err != nil {
		return nil, err
	}
	var rows []row
	var ratios []float64
	for _, k := range goKernels {
		r := row{what: "Go code, kernel " + k.name, unit: "ms", against: "wazero without checks"}
		for range 5 {
			var a, b time.Duration
			for range max(l.n, 10) {
				if err := best(ctx, ours, k.name, k.rounds, &a); err != nil {
					return nil, err
				}
				if err := best(ctx, theirs, k.name, k.rounds, &b); err != nil {
					return nil, err
				}
			}
			r.ours, r.theirs = append(r.ours, ms(a)), append(r.theirs, ms(b))
		}
		rows, ratios = append(rows, r), append(ratios, r.value())
	}
	return append(rows, row{what: "Go code, median of the kernels", unit: "x", ours: []float64{median(ratios)}, atMost: 1}), nil
}
