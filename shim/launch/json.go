package launch

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document; an OCI spec has less than ten levels.
const maxDepth = 500

// jsonReader reads a JSON document (RFC 8259) from front to back without building it. encoding/json
// would do, but it alone costs a third of the launcher's size.
type jsonReader struct {
	b     []byte
	i     int
	depth int
}

var (
	errJSONEnd    = errors.New("document ends too early")
	errJSONTrail  = errors.New("something follows the document")
	errJSONValue  = errors.New("not a JSON value")
	errJSONString = errors.New("bad string")
	errJSONDepth  = errors.New("nested too deeply")
	errJSONKind   = errors.New("value has another type than expected")
)

// at adds the position to err.
func (r *jsonReader) at(err error) error {
	return fail("offset "+strconv.Itoa(r.i), "", err, "")
}

func (r *jsonReader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\r', '\n':
			r.i++
		default:
			return
		}
	}
}

// peek returns the first byte of the next token, or 0 at the end.
func (r *jsonReader) peek() byte {
	r.space()
	if r.i >= len(r.b) {
		return 0
	}
	return r.b[r.i]
}

// end fails if anything but white space is left.
func (r *jsonReader) end() error {
	if r.peek() != 0 || r.i < len(r.b) {
		return r.at(errJSONTrail)
	}
	return nil
}

func (r *jsonReader) word(w string) bool {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		return false
	}
	r.i += len(w)
	return true
}

// null takes a null if it is next; like encoding/json, objects and arrays may be null.
func (r *jsonReader) null() bool { return r.peek() == 'n' && r.word("null") }

// members walks the comma-separated members between open and close.
func (r *jsonReader) members(open, closing byte, member func() error) error {
	if r.null() {
		return nil
	}
	switch r.peek() {
	case open:
	case 0:
		return r.at(errJSONEnd)
	default:
		return r.at(errJSONKind)
	}
	if r.depth++; r.depth > maxDepth {
		return r.at(errJSONDepth)
	}
	r.i++
	if r.peek() == closing {
		r.i++
		r.depth--
		return nil
	}
	for {
		if err := member(); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.i++
		case closing:
			r.i++
			r.depth--
			return nil
		case 0:
			return r.at(errJSONEnd)
		default:
			return r.at(errJSONValue)
		}
	}
}

// object calls field for every key; field must consume the value.
func (r *jsonReader) object(field func(key string) error) error {
	return r.members('{', '}', func() error {
		key, err := r.text()
		if err != nil {
			return err
		}
		if r.peek() != ':' {
			return r.at(errJSONValue)
		}
		r.i++
		return field(key)
	})
}

// array calls element for every element; element must consume it.
func (r *jsonReader) array(element func() error) error { return r.members('[', ']', element) }

// skip consumes one value of any kind.
func (r *jsonReader) skip() error {
	switch c := r.peek(); {
	case c == '{':
		return r.object(func(string) error { return r.skip() })
	case c == '[':
		return r.array(r.skip)
	case c == '"':
		_, err := r.text()
		return err
	case c == '-' || c >= '0' && c <= '9':
		_, err := r.number()
		return err
	case r.word("null") || r.word("true") || r.word("false"):
		return nil
	case c == 0 && r.i >= len(r.b):
		return r.at(errJSONEnd)
	}
	return r.at(errJSONValue)
}

// number consumes a number and returns its text.
func (r *jsonReader) number() (string, error) {
	r.space()
	start := r.i
	digits := func() bool {
		from := r.i
		for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
			r.i++
		}
		return r.i > from
	}
	r.word("-")
	if !r.word("0") && !digits() {
		return "", r.at(errJSONValue)
	}
	if r.word(".") && !digits() {
		return "", r.at(errJSONValue)
	}
	if r.word("e") || r.word("E") {
		if !r.word("+") {
			r.word("-")
		}
		if !digits() {
			return "", r.at(errJSONValue)
		}
	}
	return string(r.b[start:r.i]), nil
}

// integer consumes a whole number.
func (r *jsonReader) integer() (int64, error) {
	s, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, r.at(errJSONKind)
	}
	return v, nil
}

// text consumes a string and returns what it stands for. As in encoding/json, bytes that are not
// UTF-8 and lone surrogates become U+FFFD.
func (r *jsonReader) text() (string, error) {
	if r.peek() != '"' {
		return "", r.at(errJSONKind)
	}
	r.i++
	start := r.i
	for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' && r.b[r.i] >= ' ' && r.b[r.i] < utf8.RuneSelf {
		r.i++
	}
	if r.i < len(r.b) && r.b[r.i] == '"' {
		r.i++
		return string(r.b[start : r.i-1]), nil
	}
	out := append([]byte(nil), r.b[start:r.i]...)
	for r.i < len(r.b) {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return string(out), nil
		case c < ' ':
			return "", r.at(errJSONString)
		case c == '\\':
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, char)
		default:
			char, n := utf8.DecodeRune(r.b[r.i:])
			out = utf8.AppendRune(out, char)
			r.i += n
		}
	}
	return "", r.at(errJSONEnd)
}

// escape consumes a backslash and what belongs to it.
func (r *jsonReader) escape() (rune, error) {
	if r.i+1 >= len(r.b) {
		return 0, r.at(errJSONEnd)
	}
	c := r.b[r.i+1]
	r.i += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		char, err := r.hex4()
		if err != nil || !utf16.IsSurrogate(char) {
			return char, err
		}
		back := r.i
		if r.word(`\u`) {
			low, err := r.hex4()
			if err != nil {
				return 0, err
			}
			if pair := utf16.DecodeRune(char, low); pair != utf8.RuneError {
				return pair, nil
			}
			r.i = back // the second escape stands for itself
		}
		return utf8.RuneError, nil
	}
	return 0, r.at(errJSONString)
}

func (r *jsonReader) hex4() (rune, error) {
	if len(r.b)-r.i < 4 {
		return 0, r.at(errJSONEnd)
	}
	var v rune
	for _, c := range r.b[r.i : r.i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, r.at(errJSONString)
		}
		v = v<<4 | rune(c)
	}
	r.i += 4
	return v, nil
}
