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

// row is one line of the table.
type row struct {
	what, unit string
	ours       []float64
	// theirs are those of what it is compared with, named by against; both may be empty.
	theirs  []float64
	against string
	// atMost and atLeast are the bar, one of them or none: for the ratio if there is one, otherwise for our own median.
	atMost, atLeast float64
}

func (r row) compared() bool { return len(r.theirs) > 0 }

// value is what the bar is about.
func (r row) value() float64 {
	if r.compared() {
		return quantile(r.ours, .5) / quantile(r.theirs, .5)
	}
	return quantile(r.ours, .5)
}

func (r row) verdict() string {
	switch {
	case r.atMost > 0 && r.value() > r.atMost, r.atLeast > 0 && r.value() < r.atLeast:
		return "--"
	case r.atMost > 0 || r.atLeast > 0:
		return "ok"
	}
	return ""
}

func (r row) barText() string {
	switch {
	case r.atMost > 0:
		return fmt.Sprintf("<= %g", r.atMost)
	case r.atLeast > 0:
		return fmt.Sprintf(">= %g", r.atLeast)
	}
	return ""
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return s[int(float64(len(s)-1)*q+0.5)]
}

// cell is the median and the range in which eight of ten values lie.
func cell(v []float64, unit string) string {
	switch {
	case len(v) == 0:
		return ""
	case len(v) < 3:
		return fmt.Sprintf("%.4g %s", quantile(v, .5), unit)
	}
	return fmt.Sprintf("%.4g (%.4g-%.4g) %s", quantile(v, .5), quantile(v, .1), quantile(v, .9), unit)
}

func table(rows []row, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", machine(n))
	fmt.Fprintf(&b, "| %-44s | %-30s | %-54s | %-5s | %-8s |    |\n", "what (median, 10th-90th percentile)", "hachi", "compared with", "ratio", "bar")
	fmt.Fprintf(&b, "|%s|%s|%s|%s|%s|----|\n", strings.Repeat("-", 46), strings.Repeat("-", 32), strings.Repeat("-", 56), strings.Repeat("-", 7), strings.Repeat("-", 10))
	for _, r := range rows {
		theirs, ratio := "", ""
		if r.compared() {
			theirs, ratio = r.against+": "+cell(r.theirs, r.unit), fmt.Sprintf("%.3f", r.value())
		}
		fmt.Fprintf(&b, "| %-44s | %-30s | %-54s | %-5s | %-8s | %-2s |\n", r.what, cell(r.ours, r.unit), theirs, ratio, r.barText(), r.verdict())
	}
	return b.String()
}

// machine is what a reader needs to compare two tables. The load average tells whether something else ran.
func machine(n int) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	return fmt.Sprintf("%s, hachi %s, %s\n%d x %s, Linux %s, load average %s; n=%d, sides alternate",
		time.Now().UTC().Format("2006-01-02"), commit(), runtime.Version(), runtime.NumCPU(), processor(),
		unix.ByteSliceToString(u.Release[:]), load, n)
}

func commit() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func processor() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
