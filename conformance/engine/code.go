package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tetratelabs/wazero"
)

// goKernels are those of gokernels, with rounds that take about a millisecond.
var goKernels = []kernel{{"sort", 20}, {"fib", 22}, {"maps", 150}, {"format", 400}, {"json", 50}, {"request", 60}}

// code tells how fast Go's code is beside wazero's, which has no checks.
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
	// A library, whose functions are called: it is made ready by another function than a command's.
	config := wazero.NewModuleConfig().WithStartFunctions("_initialize").WithSysNanotime().WithSysWalltime()
	rows, err := l.compare(ctx, p, config, "Go code", goKernels)
	if err != nil {
		return nil, err
	}
	return append(rows, row{what: "Go code, median of the kernels", unit: "x", ours: []float64{median(ratios(rows))}, atMost: 1}), nil
}
