package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/memory"
)

// kernels are runtime/artifact/testdata/kernels.c's, with rounds that take about a millisecond where they can: the best
// of many short runs is one that nothing else disturbed.
var kernels = []kernel{{"mix", 15_000}, {"sieve", 1}, {"bodies", 10_000}, {"fib", 24}, {"matrix", 1}, {"sum", 20}}

// kernel is a function of a module, which does its work that often.
type kernel struct {
	name   string
	rounds uint64
}

// preemption compares code with checks, ticking, to wazero's own. The best of a round counts: it is what the code
// can do.
func (l *lab) preemption(ctx context.Context) ([]row, error) {
	if l.kernels.file == "" {
		return nil, nil
	}
	wasm, err := os.ReadFile(l.kernels.file)
	if err != nil {
		return nil, err
	}
	art, err := os.Open(l.kernels.artifact)
	if err != nil {
		return nil, err
	}
	defer art.Close()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(artifact.Features))
	defer rt.Close(ctx)
	plain, err := rt.Instantiate(ctx, wasm)
	if err != nil {
		return nil, err
	}
	alloc := memory.New(0)
	rt2, code, err := artifact.Load(ctx, artifact.LoadOptions{Artifact: art, Memory: alloc, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, err
	}
	defer rt2.Close(ctx)
	checked, err := alloc.Instantiate(ctx, rt2, code, wazero.NewModuleConfig())
	if err != nil {
		return nil, err
	}
	var rows []row
	var ratios []float64
	for _, k := range kernels {
		r := row{what: "preemption, kernel " + k.name, unit: "ms", against: "wazero without checks", atMost: 1.25}
		for range 5 {
			var a, b time.Duration
			for range max(2*l.n, 10) {
				if err := best(ctx, checked, k.name, k.rounds, &a); err != nil {
					return nil, err
				}
				if err := best(ctx, plain, k.name, k.rounds, &b); err != nil {
					return nil, err
				}
			}
			r.ours, r.theirs = append(r.ours, ms(a)), append(r.theirs, ms(b))
		}
		rows, ratios = append(rows, r), append(ratios, r.value())
	}
	return append(rows,
		row{what: "preemption, median of the kernels", unit: "x", ours: []float64{median(ratios)}, atMost: 1.10},
		row{what: "preemption, worst of the kernels", unit: "x", ours: []float64{quantile(ratios, 1)}, atMost: 1.25}), nil
}

// median is the mean of the middle two of an even number.
func median(v []float64) float64 {
	half := float64(len(v)-1) / 2
	return (quantile(v, (half-.25)/float64(len(v)-1)) + quantile(v, (half+.25)/float64(len(v)-1))) / 2
}

func best(ctx context.Context, m api.Module, name string, rounds uint64, so *time.Duration) error {
	f := m.ExportedFunction(name)
	if f == nil {
		return fmt.Errorf("kernel %s: not there", name)
	}
	began := time.Now()
	if _, err := f.Call(ctx, rounds); err != nil {
		return fmt.Errorf("kernel %s: %w", name, err)
	}
	if took := time.Since(began); *so == 0 || took < *so {
		*so = took
	}
	return nil
}
