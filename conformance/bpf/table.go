package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results are the rounds' values by kind of traffic and variant.
type results map[string]map[string][]float64

func (r results) add(kind, variant string, v float64) {
	if r[kind] == nil {
		r[kind] = map[string][]float64{}
	}
	r[kind][variant] = append(r[kind][variant], v)
}

func (r results) median(kind, variant string) float64 {
	v := slices.Sorted(slices.Values(r[kind][variant]))
	return v[len(v)/2]
}

// spread is half of the distance between the quartiles, in percent of the median: the noise.
func (r results) spread(kind, variant string) float64 {
	v := slices.Sorted(slices.Values(r[kind][variant]))
	return 50 * (v[len(v)*3/4] - v[len(v)/4]) / v[len(v)/2]
}

// bar is what a release must hold: one variant's median divided by another's.
type bar struct {
	kind, of, to string
	most         float64
}

var bars = []bar{
	{"pingpong", accounting, none, 1.06},
	{"connect", redirected, nft, 1},
	{"connect", together, nft, 1},
}

func (b bar) ratio(r results) float64 { return r.median(b.kind, b.of) / r.median(b.kind, b.to) }

func missed(r results) bool {
	return slices.ContainsFunc(bars, func(b bar) bool { return b.ratio(r) > b.most })
}

// table spells the results as Markdown: medians, noise, ratios to the first variant.
func table(r results, rounds int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| %-24s |", machine(rounds), "")
	for _, k := range kinds {
		fmt.Fprintf(&b, " %-24s |", heading[k.name]+", "+k.unit)
	}
	fmt.Fprintf(&b, "\n|%s|%s\n", strings.Repeat("-", 26), strings.Repeat(strings.Repeat("-", 26)+"|", len(kinds)))
	for _, v := range variants {
		fmt.Fprintf(&b, "| %-24s |", v)
		for _, k := range kinds {
			m := r.median(k.name, v)
			fmt.Fprintf(&b, " %8.2f ±%4.1f %%  %5.3f   |", m, r.spread(k.name, v), m/r.median(k.name, none))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, bar := range bars {
		mark := "ok"
		if bar.ratio(r) > bar.most {
			mark = "--"
		}
		fmt.Fprintf(&b, "%s %s: %s / %s = %.3f, bar <= %.2f\n", mark, heading[bar.kind], bar.of, bar.to, bar.ratio(r), bar.most)
	}
	return b.String()
}

// podTable spells what attaching costs.
func podTable(costs []podCost, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %-24s | median ms | p99 ms    | bar        |\n|%s|-----------|-----------|------------|\n", fmt.Sprintf("attach + detach, n=%d", n), strings.Repeat("-", 26))
	for _, c := range costs {
		mark := "ok"
		if c.p50 > podBar {
			mark = "--"
		}
		fmt.Fprintf(&b, "| %-24s | %9.2f | %9.2f | <= %d ms %s |\n", c.what, c.p50, c.p99, podBar, mark)
	}
	return b.String()
}

func podsMissed(costs []podCost) bool {
	return slices.ContainsFunc(costs, func(c podCost) bool { return c.p50 > podBar })
}

var heading = map[string]string{"connect": "connect, ask, close", "pingpong": "ping-pong of 64 B", "bulk": "bulk"}

// raw is every value, a line per kind and variant, in the order of the rounds.
func raw(r results) string {
	var b strings.Builder
	b.WriteString("\nEvery round:\n\n")
	for _, k := range kinds {
		for _, v := range variants {
			fmt.Fprintf(&b, "%s\t%s\t%s", k.name, k.unit, v)
			for _, x := range r[k.name][v] {
				fmt.Fprintf(&b, "\t%.2f", x)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// machine is what a reader needs to compare two tables.
func machine(rounds int) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	commit, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, hachi %s, Linux %s, %d x %s, %s; n=%d rounds in turn, client and endpoint on one CPU; load %s",
		time.Now().UTC().Format("2006-01-02"), strings.TrimSpace(string(commit)), unix.ByteSliceToString(u.Release[:]),
		runtime.NumCPU(), cpu(), runtime.Version(), rounds, strings.Join(strings.Fields(string(load))[:2], " "))
}

func cpu() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}
