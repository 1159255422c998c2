package symbol

import "encoding/binary"

// sourceMark is what stands for a source file in the traces of modules with Markers.
const sourceMark = "@hachi:1$"

// Section is a custom section.
type Section struct {
	Name string
	Body []byte
}

// Markers returns debug sections in which one made-up source file, @hachi, covers all code. With them wazero keeps a
// map from machine code to offsets, and prints the offset of every frame; Resolve turns that into the guest's true
// source line. The guest's own DWARF then never reaches the engine.
func Markers() []Section {
	le := binary.LittleEndian
	unit := func(body []byte) []byte { return append(le.AppendUint32(nil, uint32(len(body))), body...) }
	const (
		first = 1          // 0 means "removed" to wazero
		size  = 0x7ffffff0 // more than any code section
	)
	// One compile unit without children: DW_AT_stmt_list sec_offset, DW_AT_low_pc addr, DW_AT_high_pc data4.
	abbrev := []byte{1, 0x11, 0, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 0}
	info := []byte{4, 0, 0, 0, 0, 0, 4, 1} // version 4, abbreviations at 0, addresses of 4 bytes; abbreviation 1
	info = le.AppendUint32(info, 0)
	info = le.AppendUint32(info, first)
	info = le.AppendUint32(info, size)
	// Line program header after its own length: instructions of 1 byte, 1 operation, is_stmt, base -5, range 14, opcodes 13.
	header := []byte{1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0}
	header = append(header, "@hachi\x00\x00\x00\x00\x00"...)
	line := append([]byte{4, 0}, unit(header)...)
	line = le.AppendUint32(append(line, 0, 5, 2), first) // set_address
	line = append(line, 1, 2)                            // copy; advance_pc
	line = binary.AppendUvarint(line, size)              //
	line = append(line, 0, 1, 1)                         // end_sequence
	return []Section{{".debug_abbrev", abbrev}, {".debug_info", unit(info)}, {".debug_line", unit(line)}}
}
