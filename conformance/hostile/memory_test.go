package hostile

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestMemory runs guests that eat memory: their own, and the engine's.
func TestMemory(t *testing.T) {
	n := newNeighbour(t)
	// grown is one more page at a time until that is refused, and then the rest.
	grown := func(rest ...string) *module {
		return main(append([]string{opLoop, i32(1), opMemoryGrow, i32(-1), opEq, opEqz, "\x0d\x00", opEnd}, rest...)...)
	}
	const most = 40 << 20 // of what a guest does not touch, and of the engine
	for name, g := range map[string]guestRun{
		"grow to the limit and live": {module: grown(), code: 0, peak: most},
		"grow to the limit and trap": {module: grown(opUnreachable), code: 137, peak: most},
		"ask for all at once":        {module: main(i32(65535), opMemoryGrow, i32(-1), opEq, opEqz, opIf, opUnreachable, opEnd), code: 0, peak: most},
		"start with more than that":  {module: (&module{}).pages(65536, 65536).withStart(), code: 137, says: []string{"memory"}, peak: most},
		"touch all of it":            {file: filepath.Join(testenv.Samples(t), "memory.wasm"), code: 137, says: []string{"refused after"}},
		"fill beyond the end":        {module: main(i32(0), i32(1), i32(-1), opMemoryFill), code: 134, says: []string{"out of bounds memory access"}, peak: most},
		"random bytes beyond it":     {module: randomBeyond(), code: 0, peak: most},
		"grow a table":               {module: growTable(), code: 0},
		"start with a large table":   {module: largeTable(10_000_000), code: 0},
		"start with too large a one": {module: largeTable(1 << 27), code: 125, says: []string{"tables of 134217728 entries"}},
	} {
		t.Run(name, func(t *testing.T) {
			g.flags = []string{"-m", "64Mi", "--timeout", "8s"}
			g.check(t, n)
		})
	}
	t.Run("touch four gigabytes in turn", func(t *testing.T) {
		// Only the address space is that large: memory.fill is cut off by the timeout.
		g := guestRun{module: main(i32(32767), opMemoryGrow, opDrop, opLoop, i32(0), i32(1), i32(64<<20), opMemoryFill, opBr0, opEnd),
			flags: []string{"--timeout", "1s"}, code: 124, within: 3 * time.Second}
		g.check(t, n)
	})
}

func (m *module) withStart() *module {
	m.export("_start", m.function(nothing, ""))
	return m
}

// randomBeyond asks for nearly 4 GiB of random bytes.
func randomBeyond() *module {
	m := (&module{}).pages(1, 1)
	random := m.wasi("random_get", dyadic)
	m.export("_start", m.function(nothing, "", i32(0), i32(-1), call(random), i32(21), opEq, opEqz, opIf, opUnreachable, opEnd))
	return m
}

// growTable grows a table by a million entries until that is refused.
func growTable() *module {
	m := main(opLoop, opRefNull, i32(1_000_000), opTableGrow, i32(-1), opEq, opEqz, "\x0d\x00", opEnd)
	m.table = "\x70\x00\x01"
	return m
}

func largeTable(n uint32) *module {
	m := main()
	m.table = "\x70\x00" + leb(n)
	return m
}
