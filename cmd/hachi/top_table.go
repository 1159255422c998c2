package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/hachi-run/hachi/shim/ledger"
)

// sample is what all containers had used at one time.
type sample struct {
	at       time.Time
	readings []ledger.Reading
}

// usage is a container's reading and what it used between two samples. Rates are -1 in its first sample.
type usage struct {
	ledger.Reading
	// cpu is in percent of one processor; in and out are bytes per second.
	cpu, in, out float64
}

// name is the pod's, and the container's where that is another.
func (u usage) name() string {
	if u.Container == u.Pod {
		return u.Pod
	}
	return u.Pod + "/" + u.Container
}

// usages compares two samples. Containers of the second that are not in the first have no rates.
func usages(before, now sample) []usage {
	type key struct{ namespace, id string }
	old := map[key]ledger.Reading{}
	for _, r := range before.readings {
		old[key{r.Namespace, r.ID}] = r
	}
	seconds := now.at.Sub(before.at).Seconds()
	out := make([]usage, 0, len(now.readings))
	for _, r := range now.readings {
		u := usage{Reading: r, cpu: -1, in: -1, out: -1}
		if o, known := old[key{r.Namespace, r.ID}]; known && seconds > 0 {
			u.cpu = rate(o.CPU, r.CPU, seconds) / 1e7 // ns/s of one processor in percent
			u.in = rate(o.RxBytes, r.RxBytes, seconds)
			u.out = rate(o.TxBytes, r.TxBytes, seconds)
		}
		out = append(out, u)
	}
	return out
}

// rate is 0 for a counter that went backwards: another container under the same name.
func rate(before, now uint64, seconds float64) float64 {
	if now < before {
		return 0
	}
	return float64(now-before) / seconds
}

// order is a key by which the table is sorted.
type order struct {
	name string
	// key is what one presses for it.
	key rune
	// compare is negative when a comes first.
	compare func(a, b usage) int
}

func most(value func(usage) float64) func(a, b usage) int {
	return func(a, b usage) int { return cmp.Compare(value(b), value(a)) }
}

var orders = []order{
	{"cpu", 'c', most(func(u usage) float64 { return u.cpu })},
	{"memory", 'm', most(func(u usage) float64 { return float64(u.Memory) })},
	{"in", 'i', most(func(u usage) float64 { return u.in })},
	{"out", 'o', most(func(u usage) float64 { return u.out })},
	{"connections", 'k', most(func(u usage) float64 { return float64(u.ConnectionsOpen) })},
	{"rtt", 'r', most(func(u usage) float64 { return u.RTT.P99 })},
	{"name", 'n', func(a, b usage) int { return 0 }},
}

// orderBy finds an order by its name.
func orderBy(name string) (order, error) {
	var names []string
	for _, o := range orders {
		if o.name == name {
			return o, nil
		}
		names = append(names, o.name)
	}
	return order{}, usagef("--sort %q: not one of %s", name, strings.Join(names, ", "))
}

// sort sorts; equal ones by name.
func (o order) sort(list []usage) {
	slices.SortFunc(list, func(a, b usage) int {
		return cmp.Or(o.compare(a, b), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.name(), b.name()), cmp.Compare(a.ID, b.ID))
	})
}

// writeTable writes a line for each container below a line of titles.
func writeTable(out io.Writer, list []usage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tPOD\tCPU %\tMEMORY\tIN/S\tOUT/S\tCONN\tOPENED\tACCEPTED\tFAILED\tRTT p50\tp99")
	for _, u := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", harmless(u.Namespace), harmless(u.name()),
			percent(u.cpu), units.BytesSize(float64(u.Memory)), perSecond(u.in), perSecond(u.out),
			u.ConnectionsOpen, u.ConnectionsOpened, u.ConnectionsAccepted, u.ConnectionsFailed+u.ConnectionsRefused,
			micros(u.RTT.P50), micros(u.RTT.P99))
	}
	return w.Flush()
}

func percent(v float64) string {
	if v < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

func perSecond(v float64) string {
	if v < 0 {
		return "-"
	}
	return units.HumanSizeWithPrecision(v, 3)
}

// micros shows a time in microseconds; 0 is not known.
func micros(v float64) string {
	if v == 0 {
		return "-"
	}
	d := time.Duration(v * float64(time.Microsecond))
	switch {
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
