package hostile

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestCompute runs guests that never give the processor back, or use up the stack.
func TestCompute(t *testing.T) {
	n := newNeighbour(t)
	endless := func(m *module, flags ...string) guestRun {
		return guestRun{module: m, flags: append(flags, "--timeout", "1s"), code: 124, within: 3 * time.Second}
	}
	deep := func(m *module) guestRun {
		return guestRun{module: m, code: 134, says: []string{"stack overflow"}, peak: 48 << 20}
	}
	for name, g := range map[string]guestRun{
		"spin":                 endless(main(opLoop, opBr0, opEnd)),
		"spin in tail calls":   endless(main(tailCall(0))),
		"spin in calls":        endless(spinInCalls()),
		"spin growing nothing": endless(main(opLoop, i32(0), opMemoryGrow, opDrop, opBr0, opEnd)),
		"spin growing": endless(main(opLoop, i32(1), opMemoryGrow, opDrop, opBr0, opEnd),
			"-m", "64Mi"),
		"spin filling memory": endless(main(i32(1000), opMemoryGrow, opDrop,
			opLoop, i32(0), i32(7), i32(1000<<16), opMemoryFill, opBr0, opEnd)),
		"spin in the start section":      endless(started(opLoop, opBr0, opEnd)),
		"recursion":                      deep(recursion(0)),
		"recursion with large frames":    deep(recursion(1000)),
		"recursion through a table":      deep(recursionThroughTable()),
		"recursion in the start section": deep(started(call(0))),
		// clang's frames are in linear memory, which may end first.
		"recursion in C":             {file: filepath.Join(testenv.Samples(t), "recursion.wasm"), code: 134},
		"trap in the start section":  {module: started(opUnreachable), code: 134, says: []string{"unreachable"}},
		"exit from the depth":        {file: program(t, "exhaust"), args: []string{"leave", "3000", "42"}, code: 42},
		"exit through a table":       {module: exitThroughTable(), code: 42},
		"exit in the start section":  {module: exitInStart(), code: 42},
		"trap: unreachable":          {module: main(opUnreachable), code: 134, says: []string{"guest.wasm: ", "unreachable"}},
		"trap: division by zero":     {module: main(i32(1), i32(0), opDiv, opDrop), code: 134, says: []string{"divide by zero"}},
		"trap: overflow of a number": {module: main(opNaN, opTruncate, opDrop), code: 134, says: []string{"invalid conversion"}},
		"trap: memory":               {module: main(i32(-1), opLoad, opDrop), code: 134, says: []string{"out of bounds memory access"}},
		"trap: table":                {module: tableTrap(7, nothing), code: 134, says: []string{"invalid table access"}},
		"trap: type of a function":   {module: tableTrap(0, exits), code: 134, says: []string{"indirect call type mismatch"}},
	} {
		t.Run(name, func(t *testing.T) { g.check(t, n) })
	}
}

// main is a module with a page of memory and this code in _start.
func main(code ...string) *module {
	m := (&module{}).pages(1, 65536)
	m.export("_start", m.function(nothing, "", code...))
	return m
}

// started has the code in its start section.
func started(code ...string) *module {
	m := main(code...)
	m.export("spare", m.function(nothing, ""))
	m.exports = slices.DeleteFunc(m.exports, func(e string) bool { return strings.Contains(e, "_start") })
	m.export("_start", 1)
	m.start = leb(0)
	return m
}

// spinInCalls calls a function for ever that does nothing.
func spinInCalls() *module {
	m := main(opLoop, call(1), opBr0, opEnd)
	m.function(nothing, "")
	return m
}

// recursion calls itself with that many 64-bit locals in use.
func recursion(locals uint32) *module {
	m := main(i32(0), call(1), opDrop)
	var code []string
	for i := range locals {
		code = append(code, get(0), opExtend, "\x42", leb(i&63), opAdd64, set(1+i))
	}
	code = append(code, get(0), i32(1), opAdd, call(1))
	for i := range locals {
		code = append(code, get(1+i), opWrap, opAdd)
	}
	declared := ""
	if locals > 0 {
		declared = "\x01" + leb(locals) + "\x7e"
	}
	m.function(unary, declared, code...)
	return m
}

func recursionThroughTable() *module {
	m := main(i32(0), call(1), opDrop)
	m.function(unary, "", get(0), i32(1), opAdd, i32(0), callIndirect(unary), i32(1), opAdd)
	m.table = "\x70\x00\x01"
	m.elements = []string{"\x00" + i32(0) + opEnd + vec(leb(1))}
	return m
}

// exitThroughTable leaves a hundred levels down, each of them an indirect call.
func exitThroughTable() *module {
	m := (&module{}).pages(1, 1)
	exit := m.wasi("proc_exit", exits)
	m.function(unary, "",
		get(0), opEqz, opIf, i32(42), call(exit), opEnd,
		get(0), i32(-1), opAdd, i32(0), callIndirect(unary), i32(1), opAdd)
	m.export("_start", m.function(nothing, "", i32(100), call(1), opDrop))
	m.table = "\x70\x00\x01"
	m.elements = []string{"\x00" + i32(0) + opEnd + vec(leb(1))}
	return m
}

func exitInStart() *module {
	m := (&module{}).pages(1, 1)
	exit := m.wasi("proc_exit", exits)
	f := m.function(nothing, "", i32(42), call(exit))
	m.start = leb(f)
	m.export("_start", m.function(nothing, ""))
	return m
}

// tableTrap calls an entry of a table that holds one function without parameters.
func tableTrap(entry int32, typ uint32) *module {
	code := []string{i32(entry), callIndirect(typ)}
	if typ == exits {
		code = append([]string{i32(1)}, code...)
	}
	m := main(code...)
	m.table = "\x70\x00\x02"
	m.elements = []string{"\x00" + i32(0) + opEnd + vec(leb(0))}
	return m
}
