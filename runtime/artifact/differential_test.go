package artifact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
)

// envModule exports k, the global that random modules import, with value 7, and log, which it gets from host.
var envModule = []byte(header + section(1, "\x01\x60\x01\x7f\x00") + section(2, "\x01\x04host\x03log\x00\x00") +
	section(6, "\x01\x7f\x00\x41\x07\x0b") + section(7, "\x02\x03log\x00\x00\x01k\x03\x00"))

// behaviour is all that can be seen of a module: log, results, traps, memory, globals. It ends with the first access out
// of bounds, which may come a little early.
func behaviour(ctx context.Context, rt wazero.Runtime, instantiate func() (api.Module, error)) string {
	var out strings.Builder
	_, err := rt.NewHostModuleBuilder("host").NewFunctionBuilder().
		WithFunc(func(_ context.Context, v uint32) { fmt.Fprintln(&out, "log", v) }).Export("log").Instantiate(ctx)
	if err == nil {
		_, err = rt.InstantiateWithConfig(ctx, envModule, wazero.NewModuleConfig().WithName("env"))
	}
	if err != nil {
		return "environment: " + err.Error()
	}
	m, err := instantiate()
	if err == nil {
		if f := StartFunction(m); f != nil {
			_, err = f.Call(ctx)
		}
	}
	if err != nil {
		return out.String() + "instantiate: " + firstLine(err)
	}
	for round := range 2 {
		for i := 0; ; i++ {
			f := m.ExportedFunction(fmt.Sprintf("f%d", i))
			if f == nil {
				break
			}
			args := make([]uint64, len(f.Definition().ParamTypes()))
			for j, t := range f.Definition().ParamTypes() {
				args[j] = map[api.ValueType]uint64{i32: 5, i64: 1 << 40, f32: api.EncodeF32(2.5), f64: api.EncodeF64(-3)}[t]
			}
			if g, ok := m.ExportedGlobal("g0").(api.MutableGlobal); ok {
				g.Set(uint64(300 * (round + 1)))
			}
			results, err := f.Call(ctx, args...)
			fmt.Fprintln(&out, "f", i, values(f.Definition().ResultTypes(), results), firstLine(err))
			if strings.Contains(firstLine(err), "out of bounds memory access") {
				return out.String()
			}
		}
	}
	for i := 0; ; i++ {
		g := m.ExportedGlobal(fmt.Sprintf("g%d", i))
		if g == nil {
			break
		}
		fmt.Fprintln(&out, "g", i, values([]api.ValueType{g.Type()}, []uint64{g.Get()}))
	}
	fmt.Fprintln(&out, "k", m.ExportedGlobal("k").Get())
	all, _ := m.Memory().Read(0, m.Memory().Size())
	fmt.Fprintf(&out, "memory %d %x\n", len(all), sha256.Sum256(all))
	return out.String()
}

// values formats results so that all NaNs are equal.
func values(types []api.ValueType, v []uint64) (s string) {
	for i := range v {
		switch types[i] {
		case f32:
			f := float64(api.DecodeF32(v[i]))
			s += fmt.Sprint(" ", f)
		case f64:
			f := api.DecodeF64(v[i])
			if math.IsNaN(f) {
				f = math.NaN()
			}
			s += fmt.Sprint(" ", f)
		default:
			s += fmt.Sprint(" ", v[i])
		}
	}
	return s
}

func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if _, cause, ok := strings.Cut(line, " failed: "); ok {
		return cause // the rest numbers the start function, which rewriting moves
	}
	return line
}

// compare runs a module as it is and from its artefact, with and without mapped memory and ticking fast. It returns
// what the module did.
func compare(t *testing.T, wasm []byte) string {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, compilerConfig())
	defer rt.Close(ctx)
	cm, err := rt.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatalf("the generator made an invalid module: %v", err)
	}
	want := behaviour(ctx, rt, func() (api.Module, error) { return rt.InstantiateModule(ctx, cm, wazero.NewModuleConfig()) })
	module := file(t, wasm)
	art := file(t, nil)
	if err := Compile(ctx, module, art); err != nil {
		t.Fatal(err)
	}
	st, err := art.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if h, err := layout.ReadHeader(art, st.Size()); err != nil || h.Flags&layout.Preemptible == 0 {
		t.Fatalf("the rewritten module could not be compiled: %v", err)
	}
	for _, o := range []LoadOptions{
		{Module: module, Artifact: art, Memory: memory.New(0)},
		{Module: module, Artifact: art},
		{Module: module},
	} {
		o.Log = noWarnings(t)
		o.Preempt = preempt.Options{Period: 100 * time.Microsecond}
		func() {
			rt, cm, err := Load(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close(ctx)
			got := behaviour(ctx, rt, func() (api.Module, error) {
				if o.Memory != nil {
					return o.Memory.Instantiate(ctx, rt, cm, wazero.NewModuleConfig())
				}
				return rt.InstantiateModule(ctx, cm, wazero.NewModuleConfig())
			})
			if got != want {
				t.Errorf("artefact %v, mapped %v: got\n%s\nwant\n%s", o.Artifact != nil, o.Memory != nil, got, want)
			}
		}()
	}
	return want
}

func TestRewrittenModulesBehaveAsTheOriginals(t *testing.T) {
	n := uint64(800)
	if testing.Short() {
		n = 50
	}
	calls, traps, logs, whole := 0, 0, 0, 0
	for seed := range n {
		did := compare(t, randomModule(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		calls += strings.Count(did, "\nf ")
		traps += strings.Count(did, "wasm error")
		logs += strings.Count(did, "log ")
		whole += strings.Count(did, "\nmemory ")
	}
	// A generator whose modules all trap at once would prove nothing.
	if traps > calls/2 || logs < calls/4 || whole < int(n)/2 {
		t.Errorf("of %d calls %d trap, %d lines logged; of %d modules %d ran to their end", calls, traps, logs, n, whole)
	}
	t.Logf("of %d calls %d trap, %d lines logged; of %d modules %d ran to their end", calls, traps, logs, n, whole)
}

func FuzzRewrite(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(seed + 1000)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, randomModule(seed)) })
}
