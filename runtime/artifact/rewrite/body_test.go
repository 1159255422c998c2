package rewrite

import (
	"strings"
	"testing"
)

// rewritten returns the code that the only function of a module, without parameters, is given; its locals must be as
// many as wanted.
func rewritten(t *testing.T, locals int, code string) string {
	t.Helper()
	m := parsed(t, header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+section(4, "\x01\x70\x00\x00")+section(5, "\x01\x00\x01")+
		section(10, "\x01"+string(appendU32(nil, uint32(len(code)+1)))+"\x00"+code))
	p, err := m.Preemptible()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{b: p.section(secCode).Body}
	r.u32()
	declared, body := r.body()
	if _, n := localsOf(declared); n != uint32(locals) {
		t.Errorf("%d locals, want %d", n, locals)
	}
	return string(body)
}

// Parts of what the rewriter writes in functions whose first free local is 0.
const (
	aCheck    = "\x02\x40\x02\x40\x23\x00\x0d\x00\x0c\x01\x0b\x10\x00\x0b"
	aRare     = "\x02\x40\x23\x00\x45\x0d\x00\x10\x00\x0b"
	aRefill   = "\x41\x80\x80\x01\x21\x00"
	aCount    = "\x02\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0c\x02\x0b"
	outerLoop = "\x03\x40" + aCheck + aRefill + "\x03\x40" + aCount
	innerLoop = "\x03\x40\x02\x40\x20\x00\x0d\x00" + aRare + aRefill + "\x0b\x03\x40" + aCount
)

func TestLabelsReachOverAddedLoops(t *testing.T) {
	// block; loop; loop; br 0, br 1, br 2, br 3 (the function) from the innermost; br_table of all; then from outside
	got := rewritten(t, 1, "\x02\x40\x03\x40\x03\x40\x0c\x00\x0c\x01\x0c\x02\x0c\x03\x0e\x03\x00\x01\x02\x03\x0b\x0d\x00\x0d\x01\x0b\x0c\x00\x0b\x0c\x00\x0b")
	want := "\x02\x40" + outerLoop + innerLoop + "\x0c\x00\x0c\x02\x0c\x04\x0c\x05\x0e\x03\x00\x02\x04\x05\x0b\x0b\x0d\x00\x0d\x02\x0b\x0b\x0c\x00\x0b\x0c\x00\x0b"
	if got != want {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
}

func TestOwnCheck(t *testing.T) {
	const call, nop = "\x10\x00", "\x01"
	for _, c := range []struct {
		name, code, want string
		locals           int
	}{
		{"no calls", nop + "\x0b", nop + "\x0b", 0},
		{"long", strings.Repeat(nop, 300) + "\x0b", aCheck + strings.Repeat(nop, 300) + "\x0b", 0},
		{"before the first call", nop + call + call + "\x0b", nop + aCheck + "\x10\x01\x10\x01\x0b", 0},
		{"in the block that has all", nop + "\x02\x40" + nop + call + call + "\x0b" + nop + "\x0b",
			nop + "\x02\x40" + nop + aCheck + "\x10\x01\x10\x01\x0b" + nop + "\x0b", 0},
		{"outside of a block that has some", nop + "\x02\x40" + call + "\x0b" + nop + call + "\x0b",
			nop + aCheck + "\x02\x40\x10\x01\x0b" + nop + "\x10\x01\x0b", 0},
		{"outside of an if with both", "\x41\x00\x04\x40" + call + "\x05" + call + "\x0b\x0b",
			"\x41\x00" + aCheck + "\x04\x40\x10\x01\x05\x10\x01\x0b\x0b", 0},
		{"in the else that has all", "\x41\x00\x04\x40" + nop + "\x05" + call + "\x0b\x0b",
			"\x41\x00\x04\x40" + nop + "\x05" + aCheck + "\x10\x01\x0b\x0b", 0},
		{"two blocks deep, one of them closed", "\x02\x40\x02\x40" + call + "\x0b" + call + "\x0b\x0b",
			"\x02\x40" + aCheck + "\x02\x40\x10\x01\x0b\x10\x01\x0b\x0b", 0},
		{"a loop checks itself", nop + "\x03\x40" + call + "\x0b\x0b", nop + "\x03\x40" + aCheck + "\x10\x01\x0b\x0b", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := rewritten(t, c.locals, c.code); got != c.want {
				t.Errorf("\n got %x\nwant %x", got, c.want)
			}
		})
	}
}

func TestLoopsThatKeepTheirCheck(t *testing.T) {
	// Loops around a call, and after them one without.
	with := "\x03\x40" + aCheck
	if got, want := rewritten(t, 1, "\x03\x40\x03\x40\x10\x00\x0b\x03\x40\x0b\x0b\x0b"), with+with+"\x10\x01\x0b"+
		strings.ReplaceAll(outerLoop, "\x41\x80\x80\x01", "\x41\x83\x1f")+"\x0b\x0b\x0b\x0b"; got != want {
		t.Errorf("around a call:\n got %x\nwant %x", got, want)
	}
	// A loop with parameters, of type 0, which has none in truth but could.
	if got, want := rewritten(t, 0, "\x03\x00\x0b\x0b"), "\x03\x00"+aCheck+"\x0b\x0b"; got != want {
		t.Errorf("with a type: got %x, want %x", got, want)
	}
	// One around a handler of exceptions.
	if got, want := rewritten(t, 0, "\x03\x40\x1f\x40\x00\x0b\x0b\x0b"), "\x03\x40"+aCheck+"\x1f\x40\x00\x0b\x0b\x0b"; got != want {
		t.Errorf("with a handler: got %x, want %x", got, want)
	}
	deep := strings.Repeat("\x03\x40", mostLoopDepth+1) + strings.Repeat("\x0b", mostLoopDepth+2)
	if got, want := rewritten(t, 1, deep), "\x03\x40"+aCheck+strings.Repeat("\x0b", 2*mostLoopDepth+2); !strings.HasSuffix(got, want) {
		t.Errorf("too deep: got ...%x, want ...%x", got[max(0, len(got)-300):], want)
	}
}

func TestSmallConstantsAreNotGuarded(t *testing.T) {
	const fill, cp = "\x41\x00\x41\x00\x41\x80\x80\x04\xfc\x0b\x00", "\x41\x00\x41\x00\x41\x05\xfc\x0a\x00\x00"
	if got := rewritten(t, 0, fill+cp+"\x0b"); got != aCheck+fill+cp+"\x0b" { // the check is for what they take
		t.Errorf("got %x", got)
	}
	if got := rewritten(t, 1, "\x41\x00\x41\x00\x41\x81\x80\x04\xfc\x0b\x00\x0b"); !strings.Contains(got, "\x22\x00\x20\x00\x41\x80\x80\x04\x4d\x04\x02\xfc\x0b\x00\x05\x10\x02\x0b") {
		t.Errorf("no guard in %x", got)
	}
}
