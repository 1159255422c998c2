package preempt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/preempt"
)

func TestMain(m *testing.M) {
	before := threads()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	// Go keeps threads it once needed; ours would make hundreds.
	if n := threads() - before; n > 20 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d threads left\n", n)
		code = 1
	}
	os.Exit(code)
}

func threads() int {
	names, _ := os.ReadDir("/proc/self/task")
	return len(names)
}

// spinModule exports spin(), which loops for ever, and count(n) -> n, which loops n times.
var spinModule = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x09\x02\x60\x00\x00\x60\x01\x7f\x01\x7f" +
	"\x03\x03\x02\x00\x01" +
	"\x07\x10\x02\x04spin\x00\x00\x05count\x00\x01" +
	"\x0a\x21\x02" +
	"\x07\x00\x03\x40\x0c\x00\x0b\x0b" +
	"\x17\x01\x01\x7f\x03\x40\x20\x01\x41\x01\x6a\x21\x01\x20\x01\x20\x00\x47\x0d\x00\x0b\x20\x01\x0b")

func guest(t testing.TB, o preempt.Options) (api.Module, *preempt.Ticker, func()) {
	t.Helper()
	ctx := context.Background()
	m, err := rewrite.Parse(spinModule)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Preemptible()
	if err != nil {
		t.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	ticker, err := preempt.Attach(ctx, rt, o)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := rt.Instantiate(ctx, p.Stripped())
	if err != nil {
		t.Fatal(err)
	}
	return mod, ticker, func() { rt.Close(ctx) }
}

func TestSpinningGuestIsKilledInTime(t *testing.T) {
	var kill atomic.Bool
	mod, ticker, done := guest(t, preempt.Options{Yield: func(context.Context, api.Module) {
		if kill.Load() {
			panic(sys.NewExitError(137))
		}
	}})
	defer done()
	result := make(chan error, 1)
	go func() {
		_, err := mod.ExportedFunction("spin").Call(context.Background())
		result <- err
	}()
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	kill.Store(true)
	err := <-result
	took := time.Since(start)
	var exit *sys.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 137 || took > 20*time.Millisecond {
		t.Errorf("ended after %v with %v", took, err)
	}
	if n := ticker.Yields(); n < 5 {
		t.Errorf("%d yields in 50 ms", n)
	}
	t.Logf("killed after %v, %d yields", took, ticker.Yields())
}

// Without ticks the collector would wait for the guest for ever.
func TestCollectorIsNotHeldUp(t *testing.T) {
	var kill atomic.Bool
	mod, _, done := guest(t, preempt.Options{Yield: func(context.Context, api.Module) {
		if kill.Load() {
			panic(sys.NewExitError(1))
		}
	}})
	defer done()
	result := make(chan error, 1)
	go func() {
		_, err := mod.ExportedFunction("spin").Call(context.Background())
		result <- err
	}()
	time.Sleep(10 * time.Millisecond)
	worst := time.Duration(0)
	for range 10 {
		start := time.Now()
		runtime.GC()
		worst = max(worst, time.Since(start))
	}
	kill.Store(true)
	<-result
	if worst > 200*time.Millisecond {
		t.Errorf("a collection took %v", worst)
	}
	t.Logf("longest collection %v", worst)
}

// The thread waits while nobody computes, and comes back when somebody does.
func TestIdleGuestIsNotTicked(t *testing.T) {
	mod, ticker, done := guest(t, preempt.Options{Period: time.Millisecond})
	defer done()
	spell := func() uint64 {
		before := ticker.Yields()
		deadline := time.Now().Add(50 * time.Millisecond)
		for time.Now().Before(deadline) {
			if _, err := mod.ExportedFunction("count").Call(context.Background(), 1_000_000); err != nil {
				t.Fatal(err)
			}
		}
		return ticker.Yields() - before
	}
	if n := spell(); n < 3 { // of 50, on a machine that is not busy otherwise
		t.Errorf("%d yields while computing", n)
	}
	time.Sleep(20 * time.Millisecond)
	before := switches(t)
	time.Sleep(300 * time.Millisecond)
	if n := switches(t) - before; n > 3 {
		t.Errorf("the thread woke %d times in 300 ms of idleness", n)
	}
	if n := spell(); n < 3 { // of 50, on a machine that is not busy otherwise
		t.Errorf("%d yields while computing again", n)
	}
}

// switches returns how often the ticking thread, the last one started, has gone to sleep.
func switches(t *testing.T) int {
	t.Helper()
	last, name := 0, ""
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, d := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + d.Name() + "/status")
		if err != nil {
			continue
		}
		// It is the one that blocks all signals.
		if strings.Contains(string(b), "SigBlk:\tfffffffe") || strings.Contains(string(b), "SigBlk:\tffffffff") {
			name = d.Name()
			for line := range strings.Lines(string(b)) {
				_, _ = fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &last)
			}
		}
	}
	if name == "" {
		t.Fatal("no ticking thread")
	}
	return last
}

func TestPokeDoesNotWaitForTheTick(t *testing.T) {
	yielded := make(chan struct{})
	mod, ticker, done := guest(t, preempt.Options{Period: time.Second, Yield: func(context.Context, api.Module) {
		close(yielded)
		panic(sys.NewExitError(2))
	}})
	defer done()
	result := make(chan error, 1)
	go func() {
		_, err := mod.ExportedFunction("spin").Call(context.Background())
		result <- err
	}()
	time.Sleep(10 * time.Millisecond)
	start := time.Now()
	ticker.Poke()
	<-yielded
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("yielded after %v", took)
	}
	<-result
}

func TestManyTickersComeAndGo(t *testing.T) {
	for range 50 {
		mod, ticker, done := guest(t, preempt.Options{Period: 100 * time.Microsecond})
		if _, err := mod.ExportedFunction("count").Call(context.Background(), 100_000); err != nil {
			t.Fatal(err)
		}
		done()
		ticker.Close()
		ticker.Poke()
		runtime.GC()
	}
}

func TestOptionsAreChecked(t *testing.T) {
	rt := wazero.NewRuntime(context.Background())
	defer rt.Close(context.Background())
	if _, err := preempt.Attach(context.Background(), rt, preempt.Options{Period: time.Nanosecond}); err == nil {
		t.Error("accepted a period of 1 ns")
	}
}

// Where wazero is not as expected the guest still runs.
func TestAttachFallsBack(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	ticker, err := preempt.Attach(ctx, rt, preempt.Options{})
	if ticker == nil || err == nil {
		t.Fatalf("got %v, %v", ticker, err)
	}
	m, err := rewrite.Parse(spinModule)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Preemptible()
	if err != nil {
		t.Fatal(err)
	}
	mod, err := rt.Instantiate(ctx, p.Stripped())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := mod.ExportedFunction("count").Call(ctx, 1000); err != nil || r[0] != 1000 {
		t.Errorf("got %v, %v", r, err)
	}
	ticker.Poke()
	ticker.Close()
}

func BenchmarkAttach(b *testing.B) {
	ctx := context.Background()
	for b.Loop() {
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
		if _, err := preempt.Attach(ctx, rt, preempt.Options{Period: 100 * time.Microsecond}); err != nil {
			b.Fatal(err)
		}
		rt.Close(ctx)
	}
}
