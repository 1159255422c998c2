package profile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func nameOf(f uint32) string { return fmt.Sprint("f", f) }

// pprof gives a profile to Go's own reader of them.
func pprof(t *testing.T, r *Recorder, flags ...string) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b, nameOf); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", append(append([]string{"tool", "pprof"}, flags...), file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pprof: %v\n%s", err, out)
	}
	return string(out)
}

func TestWrite(t *testing.T) {
	r := New(2 * time.Millisecond)
	for range 3 {
		r.Add([]uint32{7, 5, 1})
	}
	r.Add([]uint32{5, 1})
	raw := pprof(t, r, "-raw")
	for _, want := range []string{"PeriodType: cpu nanoseconds", "Period: 2000000", "samples/count cpu/nanoseconds", "3    6000000:", "1    2000000:"} {
		if !strings.Contains(raw, want) {
			t.Errorf("no %q in\n%s", want, raw)
		}
	}
	// Who called whom: f7 has three of four samples itself, f5 is in all of them.
	top := pprof(t, r, "-top", "-sample_index=samples")
	var lines []string
	for line := range strings.Lines(top) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"3 75.00% 75.00% 3 75.00% f7", "1 25.00% 100% 4 100% f5", "0 0% 100% 4 100% f1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestBounds(t *testing.T) {
	r := New(time.Millisecond)
	deep := make([]uint32, 10*maxDepth)
	for k := range deep {
		deep[k] = uint32(k)
	}
	r.Add(deep)
	for k := range uint32(maxStacks + 100) {
		r.Add([]uint32{k, 1 << 30})
	}
	if len(r.stacks) > maxStacks+1 {
		t.Errorf("%d stacks, want %d at most", len(r.stacks), maxStacks)
	}
	for s := range r.stacks {
		if len(s) > 4*maxDepth {
			t.Fatalf("a stack of %d frames", len(s)/4)
		}
	}
	var b bytes.Buffer
	asked := false
	if err := r.Write(&b, func(f uint32) string { asked = asked || f == Other; return "f" }); err != nil || asked {
		t.Errorf("%v, asked for Other: %v", err, asked)
	}
}

func TestEmpty(t *testing.T) {
	if raw := pprof(t, New(time.Millisecond), "-raw"); !strings.Contains(raw, "samples/count") {
		t.Errorf("%s", raw)
	}
}
