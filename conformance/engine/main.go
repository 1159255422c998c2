// Command engine measures one engine process: loading, memory, requests per second, what preemption costs, and how
// exactly a CPU limit is kept. Where there is something to compare with, both sides alternate in one run: read the
// ratios, the rest is this machine's.
//
//	go run ./conformance/engine [-n rounds] [-o docs/bench/DATE-engine.txt]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func main() { os.Exit(run()) }

func run() int {
	n := flag.Int("n", 20, "measurements of each kind")
	seconds := flag.Float64("seconds", 2, "how long each round of requests lasts")
	out := flag.String("o", "", `also write the table to this file; "auto" is docs/bench/<date>-engine.txt`)
	only := flag.String("only", "", "comma-separated parts: load, memory, requests, code, preemption, quota")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *n, time.Duration(*seconds*float64(time.Second)), *only, *out); err != nil {
		fmt.Fprintf(os.Stderr, "engine: %v\n", err)
		return 1
	}
	return 0
}

func bench(ctx context.Context, n int, round time.Duration, only, out string) (err error) {
	top, err := testenv.Source()
	if err != nil {
		return err
	}
	if err := testenv.Make("build"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "engine-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l := &lab{top: top, dir: dir, engine: filepath.Join(top, "bin", "hachi-engine"), n: n, round: round}
	if err := l.build(ctx); err != nil {
		return err
	}
	// Pages of a file that was just written count as the process's own dirty ones.
	unix.Sync()
	var rows []row
	for _, part := range []struct {
		name    string
		measure func(context.Context) ([]row, error)
	}{{"load", l.load}, {"memory", l.memory}, {"requests", l.requests}, {"code", l.code}, {"preemption", l.preemption}, {"quota", l.quota}} {
		if only != "" && !strings.Contains(","+only+",", ","+part.name+",") {
			continue
		}
		more, err := part.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		rows = append(rows, more...)
	}
	text := table(rows, n)
	fmt.Print(text)
	switch out {
	case "":
		return nil
	case "auto":
		out = filepath.Join(top, "docs", "bench", time.Now().UTC().Format("2006-01-02")+"-engine.txt")
	}
	return os.WriteFile(out, []byte(text), 0o644)
}
