package launch

import (
	"errors"
	"unicode/utf8"
)

// The wire format of protocol buffers, as far as the bootstrap messages need it
// (https://protobuf.dev/programming-guides/encoding).
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var (
	errProtoEnd   = errors.New("message ends in the middle of a field")
	errProtoField = errors.New("not a protocol buffers field")
)

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendUint appends a varint field, or nothing for zero as proto3 has it.
func appendUint(b []byte, field, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendVarint(appendVarint(b, field<<3|wireVarint), v)
}

// appendString appends a string field, or nothing for the empty string as proto3 has it.
func appendString(b []byte, field uint64, s string) []byte {
	if s == "" {
		return b
	}
	return appendMessage(b, field, []byte(s))
}

// appendMessage appends a message field, also an empty one.
func appendMessage(b []byte, field uint64, m []byte) []byte {
	b = appendVarint(b, field<<3|wireBytes)
	b = appendVarint(b, uint64(len(m)))
	return append(b, m...)
}

// appendAny appends a google.protobuf.Any field.
func appendAny(b []byte, field uint64, typeURL string, value []byte) []byte {
	m := appendString(nil, 1, typeURL)
	if len(value) > 0 {
		m = appendMessage(m, 2, value)
	}
	return appendMessage(b, field, m)
}

// parseAny decodes a google.protobuf.Any; what is none has no type.
func parseAny(m []byte) (typeURL string, value []byte) {
	err := eachField(m, func(f protoField) error {
		switch {
		case f.id == 1 && f.wire == wireBytes:
			typeURL = string(f.bytes)
		case f.id == 2 && f.wire == wireBytes:
			value = f.bytes
		}
		return nil
	})
	if err != nil || !utf8.ValidString(typeURL) {
		return "", nil
	}
	return typeURL, value
}

// protoField is one field of a message: number holds varints and fixed values, bytes the rest.
type protoField struct {
	id     uint64
	wire   uint64
	number uint64
	bytes  []byte
}

// eachField calls f for every field of m in order. It checks every bound and fails on groups, which
// no message of containerd has.
func eachField(m []byte, f func(protoField) error) error {
	for len(m) > 0 {
		key, n := varint(m)
		if n == 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return errProtoField
		}
		m = m[n:]
		field := protoField{id: key >> 3, wire: key & 7}
		switch field.wire {
		case wireVarint:
			field.number, n = varint(m)
			if n == 0 {
				return errProtoEnd
			}
		case wireFixed64, wireFixed32:
			n = 8
			if field.wire == wireFixed32 {
				n = 4
			}
			if len(m) < n {
				return errProtoEnd
			}
			field.number = little(m, n)
		case wireBytes:
			size, k := varint(m)
			if k == 0 || size > uint64(len(m)-k) {
				return errProtoEnd
			}
			field.bytes = m[k : k+int(size)]
			n = k + int(size)
		default:
			return errProtoField
		}
		m = m[n:]
		if err := f(field); err != nil {
			return err
		}
	}
	return nil
}

// varint returns the number at the start of b and its length, which is 0 if there is none.
func varint(b []byte) (uint64, int) {
	var v uint64
	for i := 0; i < len(b) && i < 10; i++ {
		if i == 9 && b[i] > 1 {
			return 0, 0
		}
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
