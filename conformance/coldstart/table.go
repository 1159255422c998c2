package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// row is one line of the table.
type row struct {
	what, unit string
	// bar is the ratio hachi/runc that a release must hold: at most, or with more at least.
	bar  float64
	more bool

	values map[string][]float64 // by side
}

func (r *row) add(s side, v float64) {
	if r.values == nil {
		r.values = map[string][]float64{}
	}
	r.values[s.name] = append(r.values[s.name], v)
}

func (r row) ratio() float64 {
	return quantile(r.values["hachi"], .5) / quantile(r.values["runc"], .5)
}

func (r row) holds() bool {
	if r.more {
		return r.ratio() >= r.bar
	}
	return r.ratio() <= r.bar
}

func quantile(v []float64, q float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[int(float64(len(s)-1)*q+0.5)]
}

// table spells the rows as Markdown: medians, and the 95th percentile where there are enough values for one.
func table(rows []row, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", machine(n))
	fmt.Fprintf(&b, "| %-42s | %-16s | %-16s | ratio | bar     |    |\n", "what (median / p95)", "hachi", "runc")
	fmt.Fprintf(&b, "|%s|%s|%s|-------|---------|----|\n", strings.Repeat("-", 44), strings.Repeat("-", 18), strings.Repeat("-", 18))
	for _, r := range rows {
		sign, mark := "<=", "ok"
		if r.more {
			sign = ">="
		}
		if !r.holds() {
			mark = "--"
		}
		fmt.Fprintf(&b, "| %-42s | %-16s | %-16s | %5.2f | %s %.2f | %s |\n", r.what, r.cell("hachi"), r.cell("runc"), r.ratio(), sign, r.bar, mark)
	}
	return b.String()
}

func (r row) cell(side string) string {
	v := r.values[side]
	if len(v) < 20 {
		return fmt.Sprintf("%.1f %s", quantile(v, .5), r.unit)
	}
	return fmt.Sprintf("%.1f / %.1f %s", quantile(v, .5), quantile(v, .95), r.unit)
}

// machine is what a reader needs to compare two tables.
func machine(n int) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	mode := map[cgroups.CGMode]string{cgroups.Unified: "v2", cgroups.Hybrid: "hybrid", cgroups.Legacy: "v1"}[cgroups.Mode()]
	return fmt.Sprintf("%s, hachi %s, containerd 2.4.2, %s\n%d x %s, Linux %s, cgroups %s, %s; n=%d, sides alternate",
		time.Now().UTC().Format("2006-01-02"), said("git", "describe", "--tags", "--always", "--dirty"), strings.ReplaceAll(said("runc", "--version"), " version", ""),
		runtime.NumCPU(), cpu(), unix.ByteSliceToString(u.Release[:]), mode, runtime.Version(), n)
}

func said(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return name + " unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func cpu() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(raw), "\n") {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}
