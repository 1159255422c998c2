// Package symbol names the functions and source lines in a guest's stack traces.
//
// At run time a guest's functions have numbers and its instructions offsets, because names and debug information
// are often larger than the program. A Table is what a trace needs of them. It is made when the guest is compiled and read
// only when it has trapped.
package symbol

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Line says that the instructions from Addr on, up to the next Line's, come from a source line. Addr is an offset in the
// original module's code section, as DWARF for WebAssembly has it. File is an index into a Table's files; negative means
// that the source is not known.
type Line struct {
	Addr uint32
	File int32
	Line uint32
}

// Table holds a module's symbols.
type Table struct {
	// Names are by index in the module that wazero runs.
	Names map[uint32]string
	// Lines are in the order of their addresses.
	Lines []Line
	Files []string
}

// Marshal encodes the table: names in order of index, files, lines.
func (t *Table) Marshal() []byte {
	order := make([]uint32, 0, len(t.Names))
	for i := range t.Names {
		order = append(order, i)
	}
	slices.Sort(order)
	b := binary.AppendUvarint(nil, uint64(len(order)))
	for _, i := range order {
		b = binary.AppendUvarint(b, uint64(i))
		b = appendString(b, t.Names[i])
	}
	b = binary.AppendUvarint(b, uint64(len(t.Files)))
	for _, f := range t.Files {
		b = appendString(b, f)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Lines)))
	for _, l := range t.Lines {
		b = binary.AppendUvarint(b, uint64(l.Addr))
		b = binary.AppendVarint(b, int64(l.File))
		b = binary.AppendUvarint(b, uint64(l.Line))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errDamaged = errors.New("read symbols: damaged")

// Unmarshal decodes what Marshal made.
func Unmarshal(b []byte) (t *Table, err error) {
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = errDamaged, nil
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := uvarint()
		if n > uint64(len(b)) {
			err, b = errDamaged, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	t = &Table{Names: map[uint32]string{}}
	for n := uvarint(); n > 0 && err == nil; n-- {
		i := uint32(uvarint())
		t.Names[i] = text()
	}
	for n := uvarint(); n > 0 && err == nil; n-- {
		t.Files = append(t.Files, text())
	}
	for n := uvarint(); n > 0 && err == nil; n-- {
		l := Line{Addr: uint32(uvarint())}
		v, k := binary.Varint(b)
		if k <= 0 {
			return nil, errDamaged
		}
		b = b[k:]
		l.File, l.Line = int32(v), uint32(uvarint())
		if int(l.File) >= len(t.Files) {
			return nil, errDamaged
		}
		t.Lines = append(t.Lines, l)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// find returns the source of the instruction at addr, "file:line", or "".
func (t *Table) find(addr uint32) string {
	i, ok := slices.BinarySearchFunc(t.Lines, addr, func(l Line, a uint32) int { return cmp.Compare(l.Addr, a) })
	if !ok {
		i--
	}
	if i < 0 || t.Lines[i].File < 0 || t.Lines[i].Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", t.Files[t.Lines[i].File], t.Lines[i].Line)
}

// Resolve returns a wazero error message with the names and lines that are known put in. Other text stays as it is.
func (t *Table) Resolve(message string) string {
	// Here, and not when every engine starts.
	frame := regexp.MustCompile(`^\t\.\$(\d+)\(`)
	source := regexp.MustCompile(`^\t\t0x([0-9a-f]+): ` + sourceMark)
	var out []string
	for line := range strings.SplitSeq(message, "\n") {
		if m := frame.FindStringSubmatch(line); m != nil {
			i, err := strconv.ParseUint(m[1], 10, 32)
			if name, ok := t.Names[uint32(i)]; err == nil && ok {
				line = "\t" + printable(name) + line[len(m[0])-1:]
			}
		} else if m := source.FindStringSubmatch(line); m != nil {
			addr, err := strconv.ParseUint(m[1], 16, 32)
			at := t.find(uint32(addr))
			if err != nil || at == "" {
				continue
			}
			line = "\t\t" + printable(at)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// printable keeps a guest's names from drawing on the terminal that shows them.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
