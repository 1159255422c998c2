package rewrite

// effect is what an instruction takes from the stack and leaves there, and whether it may trap for another reason than an
// access to memory. It is known of those that do no more than that, or touch a variable, a global or memory.
func effect(op uint32) (pops, pushes int, traps, ok bool) {
	switch {
	case isLoad(op):
		return 1, 1, false, true
	case isStore(op):
		return 2, 0, false, true
	case op == 0x01: // nop
		return 0, 0, false, true
	case op == opDrop, op == opGlobalSet:
		return 1, 0, false, true
	case op == 0x1b: // select
		return 3, 1, false, true
	case op == opGlobalGet, op == opMemorySize, op >= opI32Const && op <= 0x44:
		return 0, 1, false, true
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82: // divisions
		return 2, 1, true, true
	case op >= 0xa8 && op <= 0xab, op >= 0xae && op <= 0xb1: // floating point numbers cut to integers
		return 1, 1, true, true
	case op == 0x50, // i64.eqz
		op >= 0x67 && op <= 0x69, op >= 0x79 && op <= 0x7b, // bits counted
		op >= 0x8b && op <= 0x91, op >= 0x99 && op <= 0x9f, // signs, roots, roundings
		op >= opI32WrapI64 && op <= 0xc4, // conversions
		op >= opMisc<<8 && op <= opMisc<<8|7:
		return 1, 1, false, true
	case op >= 0x46 && op < opI32WrapI64: // comparisons and all other arithmetic
		return 2, 1, false, true
	}
	return 0, 0, false, false
}

func isLoad(op uint32) bool  { return op >= opI32Load && op < opI32Store }
func isStore(op uint32) bool { return op >= opI32Store && op < opMemorySize }

// accessSize is how many bytes a load or store touches.
func accessSize(op uint32) uint64 { return uint64(accessSizes[op-opI32Load]) }

var accessSizes = [opMemorySize - opI32Load]byte{
	4, 8, 4, 8, // i32.load, i64.load, f32.load, f64.load
	1, 1, 2, 2, // i32.load8_s to i32.load16_u
	1, 1, 2, 2, 4, 4, // i64.load8_s to i64.load32_u
	4, 8, 4, 8, // i32.store, i64.store, f32.store, f64.store
	1, 2, // i32.store8, i32.store16
	1, 2, 4, // i64.store8 to i64.store32
}

// opposite is the comparison of integers that holds when op does not; 0 if op is none.
func opposite(op uint32) byte {
	// eq, ne, lt_s, lt_u, gt_s, gt_u, le_s, le_u, ge_s, ge_u
	places := [...]byte{1, 0, 8, 9, 6, 7, 4, 5, 2, 3}
	for _, first := range []uint32{0x46, 0x51} {
		if n := op - first; n < uint32(len(places)) {
			return byte(first) + places[n]
		}
	}
	return 0
}
