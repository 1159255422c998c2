package rewrite

import (
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// Each effect is what the validator says: with some operands of that number, exactly those results are left.
func TestEffects(t *testing.T) {
	constants := []string{"\x41\x00", "\x42\x00", "\x43\x00\x00\x00\x00", "\x44\x00\x00\x00\x00\x00\x00\x00\x00"}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	valid := func(code string) bool {
		body := "\x01\x01\x7f" + code + "\x0b" // a local of 32 bits
		_, err := rt.CompileModule(ctx, []byte(header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+section(5, "\x01\x00\x01")+
			section(6, "\x01\x7f\x01\x41\x00\x0b")+section(10, "\x01"+string(appendU32(nil, uint32(len(body))))+body)))
		return err == nil
	}
	seen := 0
	for op := range uint32(opMisc<<8 | 18) {
		pops, pushes, _, ok := effect(op)
		if !ok {
			continue
		}
		seen++
		var code string
		switch {
		case op >= opMisc<<8:
			code = "\xfc" + string(rune(op&0xff))
		case isLoad(op), isStore(op):
			code = string([]byte{byte(op), 0, 0})
		case op == opGlobalGet, op == opGlobalSet, op == opMemorySize:
			code = string([]byte{byte(op), 0})
		case op >= opI32Const && op <= 0x44:
			code = constants[op-opI32Const]
		default:
			code = string([]byte{byte(op)})
		}
		found := false
		for n := range 1 << (2 * pops) {
			operands := ""
			for i := range pops {
				operands += constants[n>>(2*i)&3]
			}
			found = found || valid(operands+code+strings.Repeat("\x1a", pushes))
		}
		if !found {
			t.Errorf("opcode %#x does not take %d and leave %d", op, pops, pushes)
		}
	}
	if seen < 150 {
		t.Errorf("only %d opcodes are known", seen)
	}
}

// An access at the end of memory touches its last byte, and one a byte further is out of bounds.
func TestAccessSizes(t *testing.T) {
	ctx := context.Background()
	for op := uint32(opI32Load); op < opMemorySize; op++ {
		for _, beyond := range []int64{0, 1} {
			at := 1<<16 - int64(accessSize(op)) + beyond
			code := string(appendSigned([]byte{opI32Const}, at))
			if isStore(op) {
				code += []string{"\x41\x00", "\x42\x00", "\x43\x00\x00\x00\x00", "\x44\x00\x00\x00\x00\x00\x00\x00\x00", "\x41\x00", "\x41\x00",
					"\x42\x00", "\x42\x00", "\x42\x00"}[op-opI32Store]
			}
			code += string([]byte{byte(op), 0, 0})
			if isLoad(op) {
				code += "\x1a"
			}
			body := "\x00" + code + "\x0b"
			rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
			_, err := rt.Instantiate(ctx, []byte(header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+section(5, "\x01\x00\x01")+
				section(8, "\x00")+section(10, "\x01"+string(appendU32(nil, uint32(len(body))))+body)))
			if out := err != nil && strings.Contains(err.Error(), "out of bounds"); out != (beyond == 1) || err != nil && !out {
				t.Errorf("opcode %#x, %d bytes beyond: %v", op, beyond, err)
			}
			rt.Close(ctx)
		}
	}
}

func TestOpposites(t *testing.T) {
	n := 0
	for op := range uint32(0x100) {
		o := opposite(op)
		if o == 0 {
			continue
		}
		n++
		if back := opposite(uint32(o)); back != byte(op) {
			t.Errorf("the opposite of %#x is %#x, whose is %#x", op, o, back)
		}
	}
	if n != 20 {
		t.Errorf("%d comparisons have an opposite, want 20", n)
	}
}
