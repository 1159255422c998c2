package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "endpoint" || os.Args[1] == "client") {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout))
	}
	os.Exit(testenv.Main(m))
}

// One round measures everything, every reply proves that its variant steers as it says, and nothing stays.
func TestOneRound(t *testing.T) {
	testenv.NeedRoot(t)
	r, err := bench(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	costs, err := pods(context.Background(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for _, v := range variants {
			if got := r[k.name][v]; len(got) != 1 || got[0] <= 0 {
				t.Errorf("%s, %s: %v, want one value", k.name, v, got)
			}
		}
	}
	text := table(r, 1) + podTable(costs, 3) + raw(r)
	for _, want := range append(variants, "outbound and inbound", "bar <=", "Every round:") {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the output:\n%s", want, text)
		}
	}
	for _, dir := range []string{"/sys/fs/bpf", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		left, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("hachi-bench-%d*", os.Getpid())))
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestBars(t *testing.T) {
	r := results{}
	for _, k := range kinds {
		for _, v := range variants {
			r.add(k.name, v, 100)
		}
	}
	if missed(r) {
		t.Error("equal values miss a bar")
	}
	r.add("pingpong", accounting, 120) // two values: the upper is the median
	if !missed(r) {
		t.Error("20 % more for accounting is within the bars")
	}
	if podsMissed([]podCost{{p50: 1.9, p99: 9}}) || !podsMissed([]podCost{{p50: 2.1}}) {
		t.Error("the bar of attaching is not at 2 ms")
	}
}
