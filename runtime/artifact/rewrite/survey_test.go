package rewrite

import (
	"strings"
	"testing"
)

// jump is what Go's compiler makes of a jump: selector n, and a branch to the loop.
func jump(n, label byte) string {
	return "\x41" + string(rune(n)) + "\x21\x00\x0c" + string(rune(label))
}

// at jumps to a label if the selector is n.
func at(n, label byte) string {
	return "\x20\x00\x41" + string(rune(n)) + "\x46\x0d" + string(rune(label))
}

// Jumps on go straight where they lead, and the head looks for the first place and for those that jumps lead back to before
// it takes its table.
func TestOnlyJumpsBackAreChecked(t *testing.T) {
	const (
		call = "\x10\x00"
		now  = "\x10\x01" // the same function
		head = "\x02\x40\x02\x40\x20\x00\x0e\x02\x00\x01\x01"
	)
	// The function has one local of its own, the selector.
	of := func(code string) string {
		t.Helper()
		m := parsed(t, header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+
			section(10, "\x01"+string(appendU32(nil, uint32(len(code)+3)))+"\x01\x01\x7f"+code))
		p, err := m.Preemptible()
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{b: p.section(secCode).Body}
		r.u32()
		_, body := r.body()
		return string(body)
	}
	// Behind block 0: forward to block 1's end, on to block 0's, which is back, and to no block, which means the last.
	behind0 := func(call, check string, on byte) string {
		return call + jump(1, on) + check2(check, jump(0, 1)) + jump(9, on) + "\x0b"
	}
	behind1 := func(check string) string { return check2(check, jump(1, 0)) + check2(check, jump(0, 0)) + "\x0b\x0b" }
	got := of("\x03\x40" + head + "\x0b" + behind0(call, "", 1) + behind1(""))
	blocks, table := head[:4], head[4:]
	want := aCheck + "\x03\x40" + blocks + at(0, 0) + at(1, 1) + table + "\x0b" + behind0(now, aCheck, 0) + behind1(aCheck)
	if got != want {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
	for name, code := range map[string]string{
		"a selector that is computed": "\x03\x40" + head + "\x0b" + call + "\x0b\x20\x00\x21\x00\x0c\x00\x0b\x0b",
		"another local":               "\x03\x40" + head + "\x0b" + call + "\x0b\x41\x00\x21\x01\x0c\x00\x0b\x0b",
		"a condition":                 "\x03\x40" + head + "\x0b" + call + "\x0b\x41\x00\x21\x00\x41\x01\x0d\x00\x0b\x0b",
		"no dispatch":                 "\x03\x40\x01" + head + "\x0b" + call + "\x0b" + jump(1, 0) + "\x0b\x0b",
		"the table leads back itself": "\x03\x40\x02\x40\x20\x00\x0e\x01\x00\x01\x0b" + call + "\x0b\x0b",
		"handlers of exceptions":      "\x03\x40" + head + "\x0b" + call + "\x0b\x1f\x40\x01\x02\x01\x0b" + jump(1, 0) + "\x0b\x0b",
	} {
		if got := of(code); !strings.HasPrefix(got, "\x03\x40"+aCheck) {
			t.Errorf("%s: the loop has no check: %x", name, got)
		}
	}
}

// check2 puts a check before a jump's branch.
func check2(check, jump string) string { return jump[:4] + check + jump[4:] }
