package symbol

import (
	"debug/dwarf"
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
