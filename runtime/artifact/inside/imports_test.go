package inside

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
)

func TestImportsOfEveryKind(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	m, err := rt.CompileModule(ctx, []byte("\x00asm\x01\x00\x00\x00"+
		"\x01\x04\x01\x60\x00\x00"+
		"\x02\x1d\x04"+
		"\x01a\x01f\x00\x00"+
		"\x01a\x01t\x01\x70\x00\x01"+
		"\x01b\x01m\x02\x00\x01"+
		"\x01b\x01g\x03\x7f\x00"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Imports(m)
	want := []Import{{ImportFunction, "a", "f"}, {ImportTable, "a", "t"}, {ImportMemory, "b", "m"}, {ImportGlobal, "b", "g"}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestStarts(t *testing.T) {
	const types, functions, code = "\x01\x04\x01\x60\x00\x00", "\x03\x02\x01\x00", "\x0a\x04\x01\x02\x00\x0b"
	for _, tt := range []struct {
		name, wasm string
		want       bool
	}{
		{"without", "\x00asm\x01\x00\x00\x00" + types + functions + code, false},
		{"with", "\x00asm\x01\x00\x00\x00" + types + functions + "\x08\x01\x00" + code, true},
	} {
		rt := wazero.NewRuntime(t.Context())
		defer rt.Close(t.Context())
		m, err := rt.CompileModule(t.Context(), []byte(tt.wasm))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Starts(m); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}
