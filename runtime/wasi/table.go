package wasi

import (
	"math"

	"golang.org/x/sys/unix"
)

// Limits of the table of a guest's descriptors.
const (
	maxDescriptors = 1 << 16
	// reserved descriptors stay free for the engine: its control socket, name look-ups, short-lived
	// descriptors of path resolution.
	reserved = 64
)

// table maps a guest's descriptor numbers.
type table struct {
	slots []*descriptor
	low   int // no free slot is below it
	count int
	limit int
}

// newTable bounds the table so that a guest meets its own limit before the process meets RLIMIT_NOFILE.
func newTable() table {
	t := table{limit: maxDescriptors}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < maxDescriptors {
		t.limit = max(int(r.Cur)-reserved, reserved)
	}
	return t
}

// get returns nil for a number that is not open.
func (t *table) get(fd uint32) *descriptor {
	if fd < uint32(len(t.slots)) {
		return t.slots[fd]
	}
	return nil
}

// full reports whether add would fail; ask before a resource is made.
func (t *table) full() bool { return t.count >= t.limit }

// add gives d the lowest free number.
func (t *table) add(d *descriptor) (uint32, errno) {
	if t.full() {
		return math.MaxUint32, eMfile
	}
	for t.low < len(t.slots) && t.slots[t.low] != nil {
		t.low++
	}
	if t.low == len(t.slots) {
		t.slots = append(t.slots, nil)
	}
	t.slots[t.low] = d
	t.count++
	return uint32(t.low), success
}

// remove frees a number and returns what it stood for.
func (t *table) remove(fd uint32) *descriptor {
	d := t.get(fd)
	if d != nil {
		t.slots[fd] = nil
		t.low = min(t.low, int(fd))
		t.count--
	}
	return d
}
