// Command coldstart is `make bench`: how fast hachi starts containers and what they cost, against runc with
// the same programs, on the same containerd, alternating, in one run. Read the ratios; the
// milliseconds are this machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

func main() { os.Exit(run()) }

func run() int {
	n := flag.Int("n", 30, "measurements of each kind")
	only := flag.String("only", "start,lives,pods,memory", "what to measure, with commas")
	enforce := flag.Bool("enforce", false, "exit with 1 when a bar is missed")
	out := flag.String("o", "", "also write the table to this file, for docs/bench")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "coldstart: a private containerd needs root (run: sudo make bench)")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := measure(ctx, *n, strings.Split(*only, ","))
	if err != nil {
		fmt.Fprintf(os.Stderr, "coldstart: %v\n", err)
		return 1
	}
	text := table(rows, *n)
	fmt.Print("\n", text)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(text), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "coldstart: %v\n", err)
			return 1
		}
	}
	for _, r := range rows {
		if *enforce && !r.holds() {
			return 1
		}
	}
	return 0
}

func measure(ctx context.Context, n int, only []string) (rows []row, err error) {
	top, err := testenv.Source()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	release, err := reap.Start()
	if err != nil {
		return nil, err
	}
	defer release()
	b, err := newBench(ctx, top, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	for _, step := range []struct {
		name string
		run  func(context.Context, int) ([]row, error)
	}{{"start", b.firstByte}, {"lives", b.throughput}, {"pods", b.pods}, {"memory", b.memory}} {
		if !slices.Contains(only, step.name) {
			continue
		}
		more, err := step.run(ctx, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}
