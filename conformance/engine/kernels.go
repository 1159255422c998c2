package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/memory"
)

// kernel is a function of a module, which does its work that often.
type kernel struct {
	name   string
	rounds uint64
}

// compare measures a module's kernels as hachi has them compiled, with checks and ticking, beside wazero's own code without.
// The best of a round counts: it is what the code can do.
func (l *lab) compare(ctx context.Context, p program, config wazero.ModuleConfig, what string, kernels []kernel) (rows []row, err error) {
	ours, end, err := checked(ctx, p, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	theirs, end2, err := plain(ctx, p, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end2()) }()
	for _, k := range kernels {
		r := row{what: what + ", kernel " + k.name, unit: "ms", against: "wazero without checks"}
		for range 5 {
			var a, b time.Duration
			for range max(2*l.n, 10) {
				if err := best(ctx, ours, k.name, k.rounds, &a); err != nil {
					return nil, err
				}
				if err := best(ctx, theirs, k.name, k.rounds, &b); err != nil {
					return nil, err
				}
			}
			r.ours, r.theirs = append(r.ours, ms(a)), append(r.theirs, ms(b))
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// checked instantiates a program's artefact. end closes it.
func checked(ctx context.Context, p program, config wazero.ModuleConfig) (_ api.Module, end func() error, err error) {
	art, err := os.Open(p.artifact)
	if err != nil {
		return nil, nil, err
	}
	alloc := memory.New(0)
	rt, code, err := artifact.Load(ctx, artifact.LoadOptions{Artifact: art, Memory: alloc, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, nil, errors.Join(err, art.Close())
	}
	end = func() error { return errors.Join(rt.Close(ctx), art.Close()) }
	_, err = wasi_snapshot_preview1.Instantiate(ctx, rt)
	var m api.Module
	if err == nil {
		m, err = alloc.Instantiate(ctx, rt, code, config)
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return m, end, nil
}

// plain instantiates a program as wazero compiles it. end closes it.
func plain(ctx context.Context, p program, config wazero.ModuleConfig) (_ api.Module, end func() error, err error) {
	wasm, err := os.ReadFile(p.file)
	if err != nil {
		return nil, nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(artifact.Features))
	end = func() error { return rt.Close(ctx) }
	_, err = wasi_snapshot_preview1.Instantiate(ctx, rt)
	var m api.Module
	if err == nil {
		m, err = rt.InstantiateWithConfig(ctx, wasm, config)
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return m, end, nil
}

// ratios are those of rows that have something to compare with.
func ratios(rows []row) (v []float64) {
	for _, r := range rows {
		v = append(v, r.value())
	}
	return v
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
