package symbol

import (
	"debug/dwarf"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var sample = &Table{
	Names: map[uint32]string{0: "env.f", 7: "main.crash", 300: "evil\x1b[2J"},
	Files: []string{"a.c", "dir/b.rs"},
	Lines: []Line{{Addr: 10, File: 0, Line: 5}, {Addr: 20, File: 1, Line: 70000}, {Addr: 30, File: -1}},
}

func TestTableSurvivesStorage(t *testing.T) {
	b := sample.Marshal()
	got, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample, got); d != "" {
		t.Error(d)
	}
	for n := range b {
		if _, err := Unmarshal(b[:n]); err == nil {
			t.Errorf("accepted the first %d of %d bytes", n, len(b))
		}
	}
}

func TestResolve(t *testing.T) {
	trace := "wasm error: unreachable\nwasm stack trace:\n\t.$7(i32,i32) i32\n\t\t0xa: @hachi:1\n\t.$8()\n\t\t0x19: @hachi:1\n" +
		"\t.$300()\n\t\t0x5: @hachi:1\n\twasi_snapshot_preview1.fd_write(i32) i32\n\t.$7()\n\t\t0x23: @hachi:1\n\t\t0xa: guest.c:1"
	want := "wasm error: unreachable\nwasm stack trace:\n\tmain.crash(i32,i32) i32\n\t\ta.c:5\n\t.$8()\n\t\tdir/b.rs:70000\n" +
		"\tevil?[2J()\n\twasi_snapshot_preview1.fd_write(i32) i32\n\tmain.crash()\n\t\t0xa: guest.c:1"
	if d := cmp.Diff(want, sample.Resolve(trace)); d != "" {
		t.Error(d)
	}
}

// The markers must be DWARF that Go reads, with one line for all addresses.
func TestMarkersAreDWARF(t *testing.T) {
	section := map[string][]byte{}
	for _, s := range Markers() {
		section[s.Name] = s.Body
	}
	d, err := dwarf.New(section[".debug_abbrev"], nil, nil, section[".debug_info"], section[".debug_line"], nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	unit, err := d.Reader().Next()
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Ranges(unit)
	if err != nil || len(r) != 1 || r[0] != [2]uint64{1, 0x7ffffff1} {
		t.Errorf("ranges %v, %v", r, err)
	}
	lines, files, err := Lines(func(name string) []byte { return section[name] })
	if err != nil || len(files) != 1 || files[0] != "@hachi" || len(lines) != 2 || lines[0].Addr != 1 || lines[0].Line != 1 {
		t.Errorf("lines %v, %v, %v", lines, files, err)
	}
}

func TestTidy(t *testing.T) {
	got := tidy([]Line{{0, 0, 1}, {30, 0, 3}, {10, 0, 1}, {20, 0, 1}, {30, -1, 0}, {0xffffffff, 0, 9}, {40, -1, 0}})
	if d := cmp.Diff([]Line{{10, 0, 1}, {30, 0, 3}, {40, -1, 0}}, got); d != "" {
		t.Error(d)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(sample.Marshal(), "\t.$7()\n\t\t0xa: @hachi:1")
	f.Fuzz(func(t *testing.T, b []byte, trace string) {
		if table, err := Unmarshal(b); err == nil {
			table.Resolve(trace)
			if again, err := Unmarshal(table.Marshal()); err != nil || len(again.Lines) != len(table.Lines) {
				t.Errorf("not stable: %v", err)
			}
		}
	})
}

func FuzzLines(f *testing.F) {
	var all [3][]byte
	for i, s := range Markers() {
		all[i] = s.Body
	}
	f.Add(all[0], all[1], all[2])
	f.Fuzz(func(t *testing.T, abbrev, info, line []byte) {
		sections := map[string][]byte{".debug_abbrev": abbrev, ".debug_info": info, ".debug_line": line}
		_, _, _ = Lines(func(name string) []byte { return sections[name] })
	})
}

// lineProgram is a line table of version 4 with one file, a.c, and the given sequences: each an address and lines of
// 8 bytes of code.
func lineProgram(sequences map[uint32][]byte) (abbrev, info, line []byte) {
	le := binary.LittleEndian
	unit := func(body []byte) []byte { return append(le.AppendUint32(nil, uint32(len(body))), body...) }
	abbrev = []byte{1, 0x11, 0, 0x10, 0x17, 0, 0, 0}
	info = unit([]byte{4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0})
	header := append([]byte{1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0}, "a.c\x00\x00\x00\x00\x00"...)
	program := append([]byte{4, 0}, unit(header)...)
	for addr, lines := range sequences {
		program = le.AppendUint32(append(program, 0, 5, 2), addr)
		at := byte(1)
		for _, l := range lines {
			program = append(program, 3, l-at&0x7f, 1, 2, 8) // advance_line, copy, advance_pc
			at = l
		}
		program = append(program, 0, 1, 1)
	}
	return abbrev, info, unit(program)
}

// What linkers leave of functions that they drop counts on from a tombstone, past the end of the address space.
func TestDroppedFunctionsHaveNoLines(t *testing.T) {
	abbrev, info, line := lineProgram(map[uint32][]byte{2: {5, 6}, 0: {20, 21}, 0xffffffff: {30, 31}, 0xfffffffe: {40, 41}})
	sections := map[string][]byte{".debug_abbrev": abbrev, ".debug_info": info, ".debug_line": line}
	lines, files, err := Lines(func(name string) []byte { return sections[name] })
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if d := cmp.Diff([]Line{{2, 0, 5}, {10, 0, 6}, {18, -1, 0}}, lines); d != "" {
		t.Error(d)
	}
}
