package symbol

import (
	"cmp"
	"debug/dwarf"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
)

// maxLines bounds a table; beyond it lines are left out altogether.
const maxLines = 4 << 20

// Lines reads the line tables of a module's DWARF sections (version 2 to 5), which section returns by name. It tries the
// best with what others wrote: any error means no lines.
func Lines(section func(name string) []byte) (lines []Line, files []string, err error) {
	defer func() {
		if r := recover(); r != nil {
			lines, files, err = nil, nil, fmt.Errorf("read debug information: %v", r)
		}
	}()
	d, err := dwarf.New(section(".debug_abbrev"), nil, nil, section(".debug_info"), section(".debug_line"), nil,
		section(".debug_ranges"), section(".debug_str"))
	if err != nil {
		return nil, nil, fmt.Errorf("read debug information: %w", err)
	}
	for _, name := range []string{".debug_addr", ".debug_line_str", ".debug_str_offsets", ".debug_rnglists"} {
		if b := section(name); b != nil {
			if err := d.AddSection(name, b); err != nil {
				return nil, nil, fmt.Errorf("read debug information: %w", err)
			}
		}
	}
	known := map[string]int32{}
	for r := d.Reader(); ; r.SkipChildren() {
		unit, err := r.Next()
		if err != nil {
			return nil, nil, fmt.Errorf("read debug information: %w", err)
		}
		if unit == nil {
			break
		}
		if unit.Tag != dwarf.TagCompileUnit {
			continue
		}
		lr, err := d.LineReader(unit)
		if err != nil || lr == nil {
			continue
		}
		var e dwarf.LineEntry
		first := len(lines) // of the sequence being read
		for {
			if err := lr.Next(&e); err != nil {
				if errors.Is(err, io.EOF) {
					break
				}
				return nil, nil, fmt.Errorf("read debug information: %w", err)
			}
			if lines = append(lines, entry(&e, known, &files)); len(lines) > maxLines {
				return nil, nil, fmt.Errorf("read debug information: more than %d lines", maxLines)
			}
			if !e.EndSequence {
				continue
			}
			// The lines that follow a tombstone count on from it, and wrap around.
			if tombstone(lines[first].Addr) {
				lines = lines[:first]
			}
			first = len(lines)
		}
	}
	return tidy(lines), files, nil
}

// tombstone says whether an address is one that linkers leave of functions which they drop. No function can be there: the
// code section begins with their number, and is shorter.
func tombstone(addr uint32) bool { return addr == 0 || addr >= 0xfffffffe }

func entry(e *dwarf.LineEntry, known map[string]int32, files *[]string) Line {
	l := Line{Addr: uint32(e.Address), File: -1}
	if e.EndSequence || e.File == nil {
		return l
	}
	name := path.Clean(e.File.Name)
	i, ok := known[name]
	if !ok {
		i = int32(len(*files))
		known[name] = i
		*files = append(*files, name)
	}
	l.File, l.Line = i, uint32(e.Line)
	return l
}

// tidy sorts lines and drops those that say nothing new. An end of one sequence yields to the start of another at the same
// address, and tombstones go.
func tidy(lines []Line) []Line {
	slices.SortStableFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.File, b.File))
	})
	out := lines[:0]
	for _, l := range lines {
		if tombstone(l.Addr) {
			continue
		}
		if n := len(out); n > 0 {
			if out[n-1].Addr == l.Addr {
				out[n-1] = l
				continue
			}
			if out[n-1].File == l.File && out[n-1].Line == l.Line {
				continue
			}
		}
		out = append(out, l)
	}
	return out
}
