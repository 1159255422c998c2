// Command bpf is `make bench-bpf`: what accounting and redirection cost, beside nothing and beside nftables REDIRECT, in
// one run. One client and one endpoint per variant, each variant in a network namespace of its own, all on one CPU;
// rounds go through the variants in turn, so that what the machine does meanwhile meets all of them. Read the ratios;
// the times are this machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout)) }

func run(args []string, in io.Reader, out io.Writer) int {
	if len(args) > 0 && (args[0] == "endpoint" || args[0] == "client") {
		if err := role(args, in, out); err != nil {
			fmt.Fprintf(os.Stderr, "bpf: %s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	flags := flag.NewFlagSet("bpf", flag.ContinueOnError)
	rounds := flags.Int("n", 31, "rounds")
	enforce := flags.Bool("enforce", false, "exit with 1 when a bar is missed")
	file := flags.String("o", "", "also write the table and every round's value to this file, for docs/bench")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bpf: programs, cgroups and network namespaces need root (run: sudo make bench-bpf)")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := bench(ctx, *rounds)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bpf: %v\n", err)
		return 1
	}
	costs, err := pods(ctx, 20**rounds)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bpf: %v\n", err)
		return 1
	}
	text := table(results, *rounds) + podTable(costs, 20**rounds)
	fmt.Fprint(out, text)
	if *file != "" {
		if err := os.WriteFile(*file, []byte(text+raw(results)), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "bpf: %v\n", err)
			return 1
		}
	}
	if *enforce && (missed(results) || podsMissed(costs)) {
		return 1
	}
	return 0
}

func role(args []string, in io.Reader, out io.Writer) error {
	if args[0] == "client" {
		return client(in, out)
	}
	return endpoint(args[1], out)
}

// bench measures every kind of traffic through every variant, in turn.
func bench(ctx context.Context, rounds int) (r results, err error) {
	if err := pinToOneCPU(); err != nil { // and with it every process that is started
		return nil, err
	}
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	var all []*side
	for _, name := range variants {
		s, err := l.side(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, s)
	}
	r = results{}
	for round := -1; round < rounds; round++ { // the first warms up
		for _, kind := range kinds {
			for i := range all {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				s := all[(i+max(round, 0))%len(all)]
				v, err := s.measure(kind.name, kind.times)
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", s.name, kind.name, err)
				}
				if round >= 0 {
					r.add(kind.name, s.name, v)
				}
			}
		}
	}
	return r, nil
}
