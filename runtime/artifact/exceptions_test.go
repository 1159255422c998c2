package artifact

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
)

// throwing is what C++ compilers emit since exceptions carry references (WebAssembly 3.0). Its function throw throws its
// parameter; sum calls that n times within a try_table and adds up what it catches: n + (n-1) + ... + 1.
var throwing = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x0a\x02\x60\x01\x7f\x00\x60\x01\x7f\x01\x7f" + // types (i32) -> (), (i32) -> i32
	"\x03\x03\x02\x00\x01" + // throw, sum
	"\x0d\x03\x01\x00\x00" + // a tag with an i32
	"\x07\x0f\x02\x05throw\x00\x00\x03sum\x00\x01" +
	"\x0a\x30\x02" +
	"\x06\x00\x20\x00\x08\x00\x0b" + // local.get 0; throw 0
	"\x27\x01\x01\x7f" + // one local i32
	"\x03\x40" + // loop
	"\x02\x7f" + // block (result i32)
	"\x1f\x40\x01\x00\x00\x00" + // try_table (catch tag 0, label 0)
	"\x20\x00\x10\x00\x0b" + // local.get 0; call throw; end
	"\x41\x00\x0b" + // i32.const 0; end
	"\x20\x01\x6a\x21\x01" + // local.get 1; i32.add; local.set 1
	"\x20\x00\x41\x01\x6b\x22\x00" + // local.get 0; i32.const 1; i32.sub; local.tee 0
	"\x0d\x00\x0b" + // br_if 0; end
	"\x20\x01\x0b") // local.get 1; end

func TestExceptions(t *testing.T) {
	module := file(t, throwing)
	art := compiled(t, module)
	for name, o := range map[string]LoadOptions{
		"compiled in place": {},
		"from its artefact": {Artifact: art},
		"ticking fast":      {Artifact: art, Preempt: preempt.Options{Period: 100 * time.Microsecond}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			o.Module, o.Log, o.Memory = module, noWarnings(t), memory.New(0)
			rt, code, err := Load(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close(ctx)
			mod, err := o.Memory.Instantiate(ctx, rt, code, wazero.NewModuleConfig())
			if err != nil {
				t.Fatal(err)
			}
			sum := mod.ExportedFunction("sum")
			if err := inside.UseStack(sum, make([]byte, inside.StackCeiling+1), 1<<20); !errors.Is(err, inside.ErrCatches) {
				t.Errorf("a stack that would be copied at every try: %v", err)
			}
			if got, err := sum.Call(ctx, 1000); err != nil || got[0] != 500_500 {
				t.Errorf("sum(1000) = %v, %v; want 500500", got, err)
			}
			if _, err := mod.ExportedFunction("throw").Call(ctx, 7); err == nil || !strings.Contains(err.Error(), "exception") {
				t.Errorf("an exception that nobody catches: %v", err)
			}
		})
	}
}
