package inside

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// down calls itself as often as its parameter says and returns how often it did.
var down = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x06\x01\x60\x01\x7f\x01\x7f" + // type (i32) -> i32
	"\x03\x02\x01\x00" +
	"\x07\x08\x01\x04down\x00\x00" +
	"\x0a\x17\x01\x15\x00\x20\x00\x45\x04\x7f\x41\x00\x05\x20\x00\x41\x01\x6b\x10\x00\x41\x01\x6a\x0b\x0b")

func downFunction(t *testing.T) api.Function {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { rt.Close(ctx) })
	mod, err := rt.Instantiate(ctx, down)
	if err != nil {
		t.Fatal(err)
	}
	return mod.ExportedFunction("down")
}

func TestStackEndsWhereItShould(t *testing.T) {
	ctx := context.Background()
	f := downFunction(t)
	const usable = 1 << 20
	stack := make([]byte, StackCeiling+1)
	if err := UseStack(f, stack, usable); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 3 { // an overflow leaves the function as it was
		r, err := f.Call(ctx, 10_000)
		if err != nil || r[0] != 10_000 {
			t.Errorf("got %v, %v", r, err)
		}
		if _, err = f.Call(ctx, 10_000_000); err == nil || !strings.Contains(err.Error(), "stack overflow") {
			t.Errorf("got %v, want a stack overflow", err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
	for i, b := range stack[:len(stack)-usable] {
		if b != 0 {
			t.Fatalf("the guest wrote %d bytes below its stack", len(stack)-usable-i)
		}
	}
}

func TestStackIsRefused(t *testing.T) {
	f := downFunction(t)
	if err := UseStack(f, make([]byte, StackCeiling), 1<<20); err == nil || errors.Is(err, ErrInternals) {
		t.Errorf("a stack that would grow: %v", err)
	}
	if err := UseStack(f, make([]byte, StackCeiling+1), StackCeiling+2); err == nil {
		t.Error("more than there is: no error")
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	mod, err := rt.Instantiate(ctx, down)
	if err != nil {
		t.Fatal(err)
	}
	if err := UseStack(mod.ExportedFunction("down"), make([]byte, StackCeiling+1), 1<<20); !errors.Is(err, ErrInternals) {
		t.Errorf("another engine: %v", err)
	}
}
