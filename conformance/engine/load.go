package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/wasi"
)

// load measures what stands before a guest's first instruction: loading an artefact, against wazero's own file
// cache with the same module, and making the instance.
func (l *lab) load(ctx context.Context) ([]row, error) {
	var rows []row
	for _, p := range []struct {
		program
		what string
		bar  float64
	}{{l.http, "Go net/http", 0.10}, {l.idle, "C", 0}} {
		if p.file == "" {
			continue
		}
		compiled := row{what: "compile " + p.what + ", once", unit: "ms"}
		took, err := l.compile(ctx, p.program)
		if err != nil {
			return nil, err
		}
		compiled.ours = []float64{ms(took)}
		ours := row{what: "load " + p.what, unit: "ms", against: "wazero's file cache", atMost: p.bar}
		instance := row{what: "instantiate " + p.what, unit: "ms"}
		cache, err := os.MkdirTemp(l.dir, "cache")
		if err != nil {
			return nil, err
		}
		for i := range l.n + 1 {
			took, made, err := loadOurs(ctx, p.program)
			if err != nil {
				return nil, err
			}
			theirs, err := loadTheirs(ctx, p.program, cache)
			if err != nil {
				return nil, err
			}
			if i > 0 { // the first fills caches
				ours.ours, instance.ours = append(ours.ours, ms(took)), append(instance.ours, ms(made))
				ours.theirs = append(ours.theirs, ms(theirs))
			}
		}
		rows = append(rows, compiled, ours, instance)
	}
	return append(rows, l.processes(ctx)...), nil
}

func loadOurs(ctx context.Context, p program) (load, instantiate time.Duration, err error) {
	art, err := os.Open(p.artifact)
	if err != nil {
		return 0, 0, err
	}
	defer art.Close()
	began := time.Now()
	alloc := memory.New(0)
	rt, code, err := artifact.Load(ctx, artifact.LoadOptions{Artifact: art, Memory: alloc, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return 0, 0, err
	}
	defer rt.Close(ctx)
	load = time.Since(began)
	system, err := wasi.New(wasi.Options{Args: []string{filepath.Base(p.file)}})
	if err != nil {
		return 0, 0, err
	}
	defer system.Close()
	if err := system.Instantiate(ctx, rt, code); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	_, err = alloc.Instantiate(ctx, rt, code, wazero.NewModuleConfig().WithStartFunctions())
	return load, time.Since(began), err
}

func loadTheirs(ctx context.Context, p program, dir string) (time.Duration, error) {
	began := time.Now()
	wasm, err := os.ReadFile(p.file)
	if err != nil {
		return 0, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return 0, err
	}
	defer cache.Close(ctx)
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(artifact.Features).WithCompilationCache(cache))
	defer rt.Close(ctx)
	_, err = rt.CompileModule(experimental.WithCompilationWorkers(ctx, 2), wasm)
	return time.Since(began), err
}

// processes measures a whole engine process, from its start to the word that its guest is loaded. What cannot be measured
// is left out; requests would say why.
func (l *lab) processes(ctx context.Context) (rows []row) {
	for _, p := range []struct {
		program
		what string
	}{{l.http, "Go net/http"}, {l.idle, "C"}} {
		r := row{what: "engine process ready, " + p.what, unit: "ms"}
		for range l.n {
			if p.file == "" {
				break
			}
			began := time.Now()
			e, err := l.start(ctx, p.program, nil, "")
			if err != nil {
				break
			}
			r.ours = append(r.ours, ms(time.Since(began)))
			end(e)
		}
		if len(r.ours) > 0 {
			rows = append(rows, r)
		}
	}
	return rows
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
