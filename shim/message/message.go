// Package message reads protobuf messages field by field, where a generated package would cost every idle pod more than
// the few fields are worth.
package message

import "google.golang.org/protobuf/encoding/protowire"

// Fields calls f for each field of a message: with bytes for strings and messages, with the number for a varint. Its
// error is f's, or says what is malformed.
func Fields(b []byte, f func(n protowire.Number, v []byte, x uint64) error) error {
	for len(b) > 0 {
		n, kind, used := protowire.ConsumeTag(b)
		if used < 0 {
			return protowire.ParseError(used)
		}
		b = b[used:]
		var v []byte
		var x uint64
		switch kind {
		case protowire.BytesType:
			v, used = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			x, used = protowire.ConsumeVarint(b)
		default:
			used = protowire.ConsumeFieldValue(n, kind, b)
		}
		if used < 0 {
			return protowire.ParseError(used)
		}
		b = b[used:]
		if err := f(n, v, x); err != nil {
			return err
		}
	}
	return nil
}
