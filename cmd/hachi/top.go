package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hachi-run/hachi/shim/ledger"
)

// onceSpan is how long --once watches for the rates in its table.
const onceSpan = time.Second

type topFlags struct {
	bookFlags
	once, asJSON bool
	interval     time.Duration
	sort         string
}

func newTopCommand() *cobra.Command {
	var f topFlags
	c := &cobra.Command{
		Use:   "top [flags]",
		Short: "Show what the node's pods use: CPU, memory, traffic, connections, round trip times",
		Long: `Show the containers of this node that run under hachi, Wasm and Linux, in pods of Kubernetes or started with ctr: CPU in
percent of one processor, memory, bytes received and sent per second, TCP connections open now and in all, and the round
trip times of its connections.

Press the letter of a column to sort by it, q to quit. Where stdout is no terminal, one table is printed.`,
		Example: `  hachi top
  hachi top --once --sort memory
  hachi top --once --json | jq '.[] | {pod, rx_bytes, tx_bytes}'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	f.bookFlags.register(flags)
	flags.BoolVar(&f.once, "once", false, "print one table, of one second, and end")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON array of the counters, an object per container, and end")
	flags.DurationVarP(&f.interval, "interval", "i", 2*time.Second, "`TIME` between two readings")
	flags.StringVar(&f.sort, "sort", "cpu", "`COLUMN` to sort by: cpu, memory, in, out, connections, rtt or name")
	return c
}

func (f *topFlags) run(c *cobra.Command) error {
	by, err := orderBy(f.sort)
	if err != nil {
		return err
	}
	if f.interval < 100*time.Millisecond {
		return usagef("--interval %v: too short (100ms at least)", f.interval)
	}
	n, err := f.open()
	if err != nil {
		return err
	}
	defer n.Close()
	read := func() (sample, error) {
		containers, err := n.Containers()
		s := sample{at: time.Now()}
		for _, c := range containers {
			s.readings = append(s.readings, c.Reading)
		}
		return s, err
	}
	first, err := read()
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c.Context())
	defer stop()
	out := c.OutOrStdout()
	switch {
	case f.asJSON:
		return writeReadings(out, first.readings)
	case f.once || !isTerminal(out):
		return once(ctx, out, first, read, by)
	}
	return live(ctx, &screen{read: read, interval: f.interval, order: by, last: first}, c.InOrStdin(), out)
}

// live shows the table until somebody quits or ctx ends.
func live(ctx context.Context, s *screen, in io.Reader, out io.Writer) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	s.done = ctx.Done()
	_, err := tea.NewProgram(s, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler()).Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil // a signal ended it, as q does
	}
	return err
}

// once prints the table of one span.
func once(ctx context.Context, out io.Writer, first sample, read func() (sample, error), by order) error {
	now := first
	if len(first.readings) > 0 {
		select {
		case <-time.After(onceSpan):
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		if now, err = read(); err != nil {
			return err
		}
	}
	rows := usages(first, now)
	by.sort(rows)
	return writeTable(out, rows)
}

// shownReading is a reading in which a round trip time that is not known is null, and has no digits that mean nothing.
type shownReading struct {
	ledger.Reading
	RTT struct {
		P50 *float64 `json:"p50"`
		P99 *float64 `json:"p99"`
	} `json:"rtt_us"`
}

func writeReadings(out io.Writer, readings []ledger.Reading) error {
	list := make([]shownReading, len(readings))
	for k, r := range readings {
		list[k].Reading = r
		if r.RTT != (ledger.RTT{}) {
			p50, p99 := math.Round(r.RTT.P50*10)/10, math.Round(r.RTT.P99*10)/10
			list[k].RTT.P50, list[k].RTT.P99 = &p50, &p99
		}
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
