package rewrite

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// changed returns what becomes of a function's code. It has locals 0 and 1, of 32 bits, and 2 and 3, of 64, and may have
// kept locals from 4 on.
func changed(t *testing.T, goes bool, code string) string {
	t.Helper()
	body := "\x02\x02\x7f\x02\x7e" + code + "\x0b"
	wasm := header + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(5, "\x01\x00\x01") +
		section(6, "\x01\x7f\x01\x41\x00\x0b") + section(10, "\x01"+string(appendU32(nil, uint32(len(body))))+body)
	if goes {
		wasm += section(0, "\x0ago:buildid1")
	}
	p, err := parsed(t, wasm).Preemptible()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{b: p.section(secCode).Body}
	r.u32()
	_, got := r.body()
	return strings.TrimSuffix(string(got), "\x0b")
}

// Pieces of code.
const (
	get0, get2, get4, get5 = "\x20\x00", "\x20\x02", "\x20\x04", "\x20\x05"
	set0, tee0, set2       = "\x21\x00", "\x22\x00", "\x21\x02"
	keep4, keep5           = "\x22\x04", "\x22\x05"
	wrap, drop             = "\xa7", "\x1a"
	load, loadNear         = "\x28\x02\x10" + drop, "\x28\x02\x08" + drop // of 4 bytes at 16, and at 8
	sixteen, eight         = "\x41\x10", "\x41\x08"
	store                  = sixteen + "\x36\x02\x20"                       // of 4 bytes at 32
	if_, out, end, else_   = "\x41\x01\x04\x40", "\x0c\x01", "\x0b", "\x05" // out leaves the function, from within one if
	div                    = eight + eight + "\x6e" + drop
	sum                    = "\xad\x42\x18\x7c" + wrap // 24 more, in Go's way
)

// reaching is a load that nobody uses, whose last byte is at an offset.
func reaching(base string, last byte) string { return base + "\x2d\x00" + string(rune(last)) + drop }

func TestAccesses(t *testing.T) {
	for _, c := range []struct{ name, code, want string }{
		{"one", get0 + load, get0 + load},
		{"none goes farther", get0 + load + get0 + loadNear, get0 + load + get0 + loadNear},
		{"one goes farther", get0 + loadNear + get0 + load, get0 + reaching(get0, 19) + loadNear + get0 + load},
		{"stores", get0 + store + get0 + load + get0 + sixteen + "\x36\x02\x28",
			get0 + reaching(get0, 43) + store + get0 + load + get0 + sixteen + "\x36\x02\x28"},
		{"another value", get0 + loadNear + eight + set0 + get0 + load, get0 + loadNear + eight + set0 + get0 + load},
		{"a division", get0 + loadNear + div + get0 + load, get0 + loadNear + div + get0 + load},
		{"an address from before a division", get0 + div + loadNear + get0 + load, get0 + div + loadNear + get0 + load},
		{"a way out", get0 + loadNear + if_ + out + end + get0 + load, get0 + loadNear + if_ + out + end + get0 + load},
		{"within a way out", get0 + loadNear + if_ + get0 + loadNear + get0 + load + out + end + get0 + loadNear,
			get0 + loadNear + if_ + get0 + reaching(get0, 19) + loadNear + get0 + load + out + end + get0 + loadNear},
		{"wrapped once", get2 + wrap + load, get2 + wrap + load},
		{"wrapped again", get2 + wrap + load + get2 + wrap + loadNear, get2 + wrap + keep4 + load + get4 + loadNear},
		{"wrapped and farther", get2 + wrap + loadNear + get2 + wrap + load,
			get2 + wrap + keep4 + reaching(get4, 19) + loadNear + get4 + load},
		{"wrapped, another value", get2 + wrap + load + get2 + set2 + get2 + wrap + load, get2 + wrap + load + get2 + set2 + get2 + wrap + load},
		{"kept around a way out", get2 + wrap + load + if_ + get2 + wrap + load + out + end + get2 + wrap + load,
			get2 + wrap + keep4 + load + if_ + get4 + load + out + end + get4 + load},
		{"not kept from within a way out", if_ + get2 + wrap + load + out + end + get2 + wrap + load,
			if_ + get2 + wrap + load + out + end + get2 + wrap + load},
		{"not kept behind an if", get2 + wrap + load + if_ + end + get2 + wrap + load, get2 + wrap + load + if_ + end + get2 + wrap + load},
		{"nor behind an else", get2 + wrap + load + if_ + else_ + out + end + get2 + wrap + load,
			get2 + wrap + load + if_ + else_ + out + end + get2 + wrap + load},
		{"nor behind what is jumped to", get2 + wrap + load + if_ + if_ + out + end + "\x0f" + end + get2 + wrap + load,
			get2 + wrap + load + if_ + if_ + out + end + "\x0f" + end + get2 + wrap + load},
		{"kept while others are, behind what forgets", get2 + wrap + load + get2 + wrap + load + if_ + eight + "\x40\x00" + drop +
			"\x20\x03" + wrap + load + "\x20\x03" + wrap + load + out + end + get2 + wrap + load,
			get2 + wrap + keep4 + load + get4 + load + if_ + eight + "\x40\x00" + drop +
				"\x20\x03" + wrap + keep5 + load + get5 + load + out + end + get4 + load},
		{"Go's sums mean nothing elsewhere", get0 + sum + load, get0 + sum + load},
		{"nor do its calls", get0 + load + get0 + eight + "\x6b" + tee0 + drop, get0 + load + get0 + eight + "\x6b" + tee0 + drop},
		{"a comparison negated", eight + eight + "\x48\x45" + drop, eight + eight + "\x4e" + drop},
		{"twice", eight + eight + "\x48\x45\x45" + drop, eight + eight + "\x4e\x45" + drop},
		{"of floating point numbers", "\x43\x00\x00\x00\x00\x43\x00\x00\x00\x00\x5d\x45" + drop, "\x43\x00\x00\x00\x00\x43\x00\x00\x00\x00\x5d\x45" + drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := changed(t, false, c.code); got != c.want {
				t.Errorf("\n got %x\nwant %x", got, c.want)
			}
		})
	}
}

func TestGoStack(t *testing.T) {
	const (
		later     = "\x28\x02\x18" + drop // load, 8 further up
		nearLater = "\x28\x02\x10" + drop
		below     = get0 + eight + "\x6b" + keep4
	)
	for _, c := range []struct{ name, code, want string }{
		{"a sum", get0 + sum + loadNear, get0 + "\x28\x02\x20" + drop},
		{"a sum that is stored to", get0 + sum + sixteen + "\x36\x02\x00", get0 + sixteen + "\x36\x02\x18"},
		{"a sum for another use", get0 + sum + drop, get0 + sum + drop},
		{"around a way out", get0 + loadNear + if_ + out + end + get0 + load, get0 + reaching(get0, 19) + loadNear + if_ + out + end + get0 + load},
		{"pointers are not", get2 + wrap + loadNear + if_ + out + end + get2 + wrap + load,
			get2 + wrap + keep4 + loadNear + if_ + out + end + get4 + load},
		{"from within a way out", if_ + get0 + loadNear + out + end + get0 + load + get0 + loadNear,
			if_ + get0 + loadNear + out + end + get0 + load + get0 + loadNear},
		{"a call", get0 + load + get0 + loadNear + get0 + eight + "\x6b" + tee0 + drop, below + later + get4 + nearLater + get4 + tee0 + drop},
		{"a call, and farther", get0 + loadNear + get0 + load + get0 + eight + "\x6b" + tee0 + drop,
			below + reaching(get4, 27) + nearLater + get4 + later + get4 + tee0 + drop},
		{"a call, by an address that waits", get0 + get0 + "\x28\x02\x08" + "\x36\x02\x10" + get0 + eight + "\x6b" + tee0 + drop,
			below + reaching(get4, 27) + get4 + "\x28\x02\x10" + "\x36\x02\x18" + get4 + tee0 + drop},
		{"a call with nothing before it", get0 + eight + "\x6b" + tee0 + drop, get0 + eight + "\x6b" + tee0 + drop},
		{"a variable of another kind", get0 + load + get0 + eight + "\x6b" + tee0 + drop + eight + set0, get0 + load + get0 + eight + "\x6b" + tee0 + drop + eight + set0},
		{"another step", get0 + load + get0 + sixteen + "\x6b" + tee0 + drop, get0 + load + get0 + sixteen + "\x6b" + tee0 + drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Local 0 is the stack pointer, and the global has moved for the epoch.
			if got, want := changed(t, true, "\x23\x00\x21\x00"+c.code), "\x23\x01\x21\x00"+c.want; got != want {
				t.Errorf("\n got %x\nwant %x", got, want)
			}
		})
	}
}

// What is remembered, and the locals it takes, are bounded; beyond, code stays as it is.
func TestMuchToRemember(t *testing.T) {
	many := strings.Repeat(get2+wrap+load+get2+wrap+load+get2+set2, mostKept+10)
	if got := strings.Count(changed(t, false, many), get2+wrap); got != 2*(mostKept+10)-mostKept {
		t.Errorf("%d of %d wraps are left, with %d locals to keep values in", got, 2*(mostKept+10), mostKept)
	}
	// A function that has as many locals as it may gets no more than its checks need.
	for _, locals := range []uint32{maxLocals - 10, maxLocals} {
		body := "\x01" + string(appendU32(nil, locals)) + "\x7e" + strings.Repeat("\x20\x00"+wrap+load+"\x20\x00"+wrap+load+"\x20\x01\x21\x00", 20) + "\x0b"
		p, err := parsed(t, header+section(1, "\x01\x60\x00\x00")+section(3, "\x01\x00")+section(5, "\x01\x00\x01")+
			section(10, "\x01"+string(appendU32(nil, uint32(len(body))))+body)).Preemptible()
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{b: p.section(secCode).Body}
		r.u32()
		declared, _ := r.body()
		if _, n := localsOf(declared); r.err != nil || n != max(locals, maxLocals-2) {
			t.Errorf("%d locals have become %d, %v", locals, n, r.err)
		}
	}
	ways := strings.Repeat(get2+wrap+drop+get2+set2, mostKnown) + get2 + wrap + drop + if_ + out + end + get2 + wrap + drop
	if got := changed(t, false, ways); !strings.HasSuffix(got, ways) { // behind a check, being long
		t.Error("a branch remembers more than it may")
	}
}

// A body made to be slow is looked through in a time that grows with its length.
func TestBodiesThatWouldBeSlow(t *testing.T) {
	const (
		n    = 20_000
		step = get0 + eight + "\x6a" + tee0 + load // the stack pointer moves, and is used
		way  = if_ + out + end
	)
	for name, code := range map[string]string{
		"many pointers, many ways out": "\x23\x00\x21\x00" + strings.Repeat(step, n) + strings.Repeat(way, n),
		"many values, many ways out":   strings.Repeat(get2+wrap+load+get2+set2, n) + strings.Repeat(way, n),
		"both in turns":                "\x23\x00\x21\x00" + strings.Repeat(step+get2+wrap+load+get2+set2+way, n),
		"much on the stack":            strings.Repeat(get0, n) + strings.Repeat(way, n) + strings.Repeat(drop, n),
		"ways out within each other": strings.Repeat(get2+wrap+load+get2+set2, 100) + strings.Repeat(if_, n) +
			strings.Repeat("\x0f"+end, n),
	} {
		t.Run(name, func(t *testing.T) {
			began := cpuTime(t)
			changed(t, true, code)
			if took := cpuTime(t) - began; took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// cpuTime is what this process has had of processors, which other processes do not make longer.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
