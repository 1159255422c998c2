package wasi

import "encoding/binary"

func (s *System) argsSizesGet(p []uint64) errno { return s.sizes(s.args, p) }

func (s *System) argsGet(p []uint64) errno { return s.strings(s.args, p) }

func (s *System) environSizesGet(p []uint64) errno { return s.sizes(s.env, p) }

func (s *System) environGet(p []uint64) errno { return s.strings(s.env, p) }

// sizes writes how many strings there are, and their bytes with a NUL each.
func (s *System) sizes(list []string, p []uint64) errno {
	if e := s.putU32(uint32(p[0]), uint32(len(list))); e != success {
		return e
	}
	return s.putU32(uint32(p[1]), size(list))
}

func size(list []string) uint32 {
	n := 0
	for _, v := range list {
		n += len(v) + 1
	}
	return uint32(n)
}

// strings writes an array of pointers, and the strings that they point to.
func (s *System) strings(list []string, p []uint64) errno {
	pointers, ok := s.view(uint32(p[0]), uint32(len(list))*4)
	at := uint32(p[1])
	text, ok2 := s.view(at, size(list))
	if !ok || !ok2 {
		return eFault
	}
	for i, v := range list {
		binary.LittleEndian.PutUint32(pointers[4*i:], at)
		n := copy(text, v)
		text[n] = 0
		text = text[n+1:]
		at += uint32(n) + 1
	}
	return success
}
