package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// counters reads the files of one directory after the other, for one reading of a group's metrics. A file that is not
// there counts nothing. The first other error ends the reading, names the file and stays in err.
type counters struct {
	dir string
	buf []byte
	err error
}

func newCounters() *counters {
	// The longest files, of memory, have 2 KB; what is longer makes it grow.
	return &counters{buf: make([]byte, 4096)}
}

// text is what a file says, without the last newline and until the next call; nil where there is no such file.
func (c *counters) text(file string) []byte {
	if c.err != nil {
		return nil
	}
	text, err := c.read(c.dir + "/" + file)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.EOPNOTSUPP): // the latter is pressure, when not accounted for
		return nil
	case err != nil:
		c.fail(file, err)
		return nil
	}
	return bytes.TrimSuffix(text, []byte("\n"))
}

// read reads a control file. The kernel makes those with counters in one piece (cftype.seq_show) and hands out as much as
// the buffer takes: one that is not full has it all, and the read that would say so is spared.
func (c *counters) read(name string) ([]byte, error) {
	fd, err := ignoreEINTR(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for end := 0; ; {
		n, err := ignoreEINTR(func() (int, error) { return unix.Read(fd, c.buf[end:]) })
		if err != nil {
			return nil, err
		}
		if end += n; end < len(c.buf) {
			return c.buf[:end], nil
		}
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
}

func (c *counters) fail(file string, err error) {
	if c.err == nil {
		c.err = fmt.Errorf("%s/%s: %w", c.dir, file, err)
	}
}

// number is a file's only number; "max" is math.MaxUint64.
func (c *counters) number(file string) uint64 {
	text := c.text(file)
	if text == nil {
		return 0
	}
	return c.parse(file, text)
}

// parse makes a number of part of a file. Sums over processors are without a lock and may be below 0 for a moment, as
// which they are 0.
func (c *counters) parse(file string, text []byte) uint64 {
	if string(text) == "max" {
		return math.MaxUint64
	}
	digits, below := bytes.CutPrefix(text, []byte("-"))
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		c.fail(file, err)
	}
	if below {
		return 0
	}
	return n
}

// field is where the number with a key goes.
type field struct {
	key string
	to  *uint64
}

// keys reads a file with lines "key number", and tells whether there is one. It is fastest with the fields in the file's
// order.
func (c *counters) keys(file string, fields ...field) bool {
	text := c.text(file)
	next := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		key, value, ok := bytes.Cut(line, []byte(" "))
		if ok {
			next = c.set(file, fields, next, key, value)
		} else if len(line) > 0 {
			c.fail(file, fmt.Errorf("line %q: no number", line))
		}
	}
	return text != nil
}

// pairs is keys for text from a file that has "key=number", separated by spaces.
func (c *counters) pairs(file string, text []byte, fields ...field) {
	next := 0
	for pair := range bytes.FieldsSeq(text) {
		key, value, _ := bytes.Cut(pair, []byte("="))
		next = c.set(file, fields, next, key, value)
	}
}

// set sets the field with a key, if there is one, and returns the index of the one after it. It looks from next on.
func (c *counters) set(file string, fields []field, next int, key, value []byte) int {
	for range fields {
		f := fields[next]
		if next++; next == len(fields) {
			next = 0
		}
		if f.key == string(key) {
			*f.to = c.parse(file, value)
			break
		}
	}
	return next
}
