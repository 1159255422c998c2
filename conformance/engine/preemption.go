package main

import (
	"context"

	"github.com/tetratelabs/wazero"
)

// cKernels are runtime/artifact/testdata/kernels.c's, with rounds that take about a millisecond where they can: the best
// of many short runs is one that nothing else disturbed.
var cKernels = []kernel{{"mix", 15_000}, {"sieve", 1}, {"bodies", 10_000}, {"fib", 24}, {"matrix", 1}, {"sum", 20}}

// preemption tells what being interruptible costs C's code.
func (l *lab) preemption(ctx context.Context) ([]row, error) {
	if l.kernels.file == "" {
		return nil, nil
	}
	rows, err := l.compare(ctx, l.kernels, wazero.NewModuleConfig(), "preemption", cKernels)
	if err != nil {
		return nil, err
	}
	v := ratios(rows)
	for i := range rows {
		rows[i].atMost = 1.25
	}
	return append(rows,
		row{what: "preemption, median of the kernels", unit: "x", ours: []float64{median(v)}, atMost: 1.10},
		row{what: "preemption, worst of the kernels", unit: "x", ours: []float64{quantile(v, 1)}, atMost: 1.25}), nil
}
