package rewrite

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const header = "\x00asm\x01\x00\x00\x00"

func section(id byte, body string) string {
	return string(appendU32([]byte{id}, uint32(len(body)))) + body
}

func parsed(t *testing.T, wasm string) *Module {
	t.Helper()
	m, err := Parse([]byte(wasm))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestImagePutsSegmentsInPlace(t *testing.T) {
	// Two overlapping segments, one across a page border, an empty one, one at the very end.
	m := parsed(t, header+section(5, "\x01\x00\x03")+section(11, "\x05"+
		"\x00\x41\x00\x0b\x05hello"+
		"\x00\x41\x02\x0b\x02LL"+
		"\x00\x41\xff\xff\x03\x0b\x02ab"+ // 65535
		"\x00\x41\x80\x80\x0c\x0b\x00"+ // 196608, empty, just in bounds
		"\x00\x41\xff\xff\x0b\x0b\x01z")) // 196607
	img := m.Image()
	if img == nil {
		t.Fatal("no image")
	}
	if len(img.Runs) != 1 || img.Runs[0] != (Run{0, 3 * Grain, 0}) || img.rest != nil {
		t.Fatalf("runs %+v, rest %q", img.Runs, img.rest)
	}
	want := make([]byte, 3*Grain)
	copy(want, "heLLo")
	copy(want[65535:], "ab")
	want[len(want)-1] = 'z'
	if !bytes.Equal(img.Bytes, want) {
		t.Error("wrong bytes")
	}
	stub := m.Stub(img)
	if s := parsed(t, string(stub)); s.section(secData) != nil {
		t.Error("the stub keeps data")
	}
	runs, err := UnmarshalRuns(MarshalRuns(img.Runs), int64(len(img.Bytes)))
	if err != nil || len(runs) != 1 || runs[0] != img.Runs[0] {
		t.Errorf("%v, %v", runs, err)
	}
	back, err := Inline(stub, runs, img.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if again := parsed(t, string(back)).Image(); again == nil || !bytes.Equal(again.Bytes, want) {
		t.Error("inlined segments give another image")
	}
}

func TestDataThatMustStay(t *testing.T) {
	memory, far := section(5, "\x01\x00\x03"), section(5, "\x01\x00\x80\x80\x04")
	scattered := "\xc8\x01"
	for i := range 200 {
		scattered += "\x00\x41" + string(appendSigned(nil, int64(i)<<20)) + "\x0b\x01x"
	}
	for name, wasm := range map[string]string{
		"out of bounds":       memory + section(11, "\x01\x00\x41\xff\xff\x0b\x0b\x02zz"),
		"negative offset":     memory + section(11, "\x01\x00\x41\x7f\x0b\x01z"),
		"empty beyond bounds": memory + section(11, "\x01\x00\x41\x81\x80\x0c\x0b\x00"),
		"offset by a global":  section(2, "\x01\x01a\x01b\x03\x7f\x00") + memory + section(11, "\x01\x00\x23\x00\x0b\x01z"),
		"computed offset":     memory + section(11, "\x01\x00\x41\x01\x41\x01\x6a\x0b\x01z"),
		"imported memory":     section(2, "\x01\x01a\x01b\x02\x00\x01") + section(11, "\x01\x00\x41\x00\x0b\x01z"),
		"scattered":           far + section(11, scattered),
		"none":                memory,
	} {
		m := parsed(t, header+wasm)
		if img := m.Image(); img != nil {
			t.Errorf("%s: got an image %+v", name, img.Runs)
			continue
		}
		stub := parsed(t, string(m.Stub(nil)))
		if a, b := m.section(secData), stub.section(secData); a != nil && !bytes.Equal(a.Body, b.Body) {
			t.Errorf("%s: the stub's data differs", name)
		}
	}
}

// Segments that code names keep their numbers.
func TestPassiveSegmentsKeepTheirNumbers(t *testing.T) {
	data := section(11, "\x03\x00\x41\x00\x0b\x01a\x01\x02bc\x00\x41\x05\x0b\x01d")
	m := parsed(t, header+section(5, "\x01\x00\x01")+section(12, "\x03")+data)
	img := m.Image()
	if img == nil || string(img.rest) != "\x03\x01\x00\x01\x02bc\x01\x00" {
		t.Fatalf("got %+v", img)
	}
	b, err := Inline(m.Stub(img), img.Runs, img.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if s := parsed(t, string(b)).section(secData); !strings.HasPrefix(string(s.Body), "\x04\x01\x00\x01\x02bc\x01\x00\x00\x41") {
		t.Errorf("inlined: %.30q", s.Body)
	}
	withoutCount := parsed(t, header+section(5, "\x01\x00\x01")+data)
	if img := withoutCount.Image(); img == nil || img.rest != nil {
		t.Errorf("without a count nothing can be named: %+v", img)
	}
}

func TestReservedNamesAreRefused(t *testing.T) {
	for _, wasm := range []string{
		section(1, "\x01\x60\x00\x00") + section(2, "\x01\x0bhachi:yield\x05yield\x00\x00"),
		section(6, "\x01\x7f\x00\x41\x00\x0b") + section(7, "\x01\x0bhachi:start\x03\x00"),
	} {
		if _, err := Parse([]byte(header + wasm)); !errors.Is(err, ErrBadModule) || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("got %v", err)
		}
	}
}

func TestPreemptibleShiftsIndices(t *testing.T) {
	// One imported function and global; function 1 calls itself and 0, uses globals 0 and 1, and loops.
	m := parsed(t, header+section(1, "\x01\x60\x00\x00")+section(2, "\x02\x01a\x01f\x00\x00\x01a\x01g\x03\x7f\x00")+
		section(3, "\x01\x00")+section(4, "\x01\x70\x00\x02")+section(6, "\x02\x7f\x01\x23\x00\x0b\x70\x00\xd2\x01\x0b")+
		section(7, "\x04\x01a\x00\x00\x01b\x00\x01\x01c\x03\x00\x01d\x03\x01")+section(8, "\x01")+
		section(9, "\x02\x00\x41\x00\x0b\x02\x00\x01\x05\x70\x02\xd2\x01\x0b\xd0\x70\x0b")+
		section(10, "\x01\x10\x00\x10\x00\x10\x01\x23\x00\x24\x01\x03\x40\x0b\xd2\x01\x1a\x0b"))
	p, err := m.Preemptible()
	if err != nil {
		t.Fatal(err)
	}
	const (
		check  = "\x02\x40\x02\x40\x23\x01\x0d\x00\x0c\x01\x0b\x10\x01\x0b"
		refill = "\x41\xdc\x0f\x21\x00" // spell / (9 instructions + 2 calls)
		loop   = "\x03\x40" + check + refill + "\x03\x40\x02\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0c\x02\x0b"
	)
	for id, want := range map[byte]string{
		secType:    "\x02\x60\x00\x00\x60\x00\x00",
		secImport:  "\x04\x01a\x01f\x00\x00\x01a\x01g\x03\x7f\x00\x0bhachi:yield\x05yield\x00\x01\x0bhachi:epoch\x05epoch\x03\x7f\x01",
		secGlobal:  "\x02\x7f\x01\x23\x00\x0b\x70\x00\xd2\x02\x0b",
		secExport:  "\x05\x01a\x00\x00\x01b\x00\x02\x01c\x03\x00\x01d\x03\x02\x0bhachi:start\x00\x02",
		secElement: "\x02\x00\x41\x00\x0b\x02\x00\x02\x05\x70\x02\xd2\x02\x0b\xd0\x70\x0b",
		secCode:    "\x01\x44\x01\x01\x7f" + check + "\x10\x00\x10\x02\x23\x00\x24\x02" + loop + "\x0b\x0b\xd2\x02\x1a\x0b",
	} {
		if got := string(p.section(id).Body); got != want {
			t.Errorf("section %d:\n got %q\nwant %q", id, got, want)
		}
	}
	if p.section(secStart) != nil {
		t.Error("the start function still starts by itself")
	}
	if _, err := parsed(t, header).Preemptible(); err == nil {
		t.Error("a module without code has nothing to rewrite")
	}
	unknown := parsed(t, header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+section(10, "\x01\x03\x00\x06\x0b"))
	if _, err := unknown.Preemptible(); err == nil {
		t.Error("rewrote an unknown opcode")
	}
}

func TestRunsAreChecked(t *testing.T) {
	for _, r := range []Run{{1, Grain, 0}, {0, Grain, Grain}, {0, 1 << 40, 0}, {1 << 40, Grain, 0}, {0, Grain, ^uint64(0) &^ (Grain - 1)}, {1 << 32, Grain, 0}} {
		if _, err := UnmarshalRuns(MarshalRuns([]Run{r}), Grain); err == nil {
			t.Errorf("accepted %+v", r)
		}
	}
	if _, err := UnmarshalRuns(make([]byte, 23), Grain); err == nil {
		t.Error("accepted an odd length")
	}
}

// Whatever Parse accepts can be taken through every step without a panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte(header + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(10, "\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b")))
	f.Add([]byte(header + section(5, "\x01\x00\x01") + section(11, "\x02\x00\x41\x05\x0b\x03abc\x01\x02de") + section(0, "\x01a")))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := Parse(wasm)
		if err != nil {
			if !errors.Is(err, ErrBadModule) {
				t.Errorf("another kind of error: %v", err)
			}
			return
		}
		if p, err := m.Preemptible(); err == nil {
			if _, err := parse(p.Stripped()); err != nil {
				t.Errorf("the rewritten module cannot be parsed: %v", err)
			}
			m = p
		}
		img := m.Image()
		stub := m.Stub(img)
		if img != nil {
			if _, err := Inline(stub, img.Runs, img.Bytes); err != nil {
				t.Errorf("inline: %v", err)
			}
		}
	})
}
