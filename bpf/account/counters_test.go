package account

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each time lies in its bucket: at or above the bound before, below its own.
func TestBuckets(t *testing.T) {
	var h Histogram
	for us := uint64(0); us < 1<<26; us += 1 + us/1000 {
		b := bucket(uint32(us))
		low := uint64(0)
		if b > 0 {
			low = h.Bound(b - 1)
		}
		if us < low || us >= h.Bound(b) && b < len(h)-1 {
			t.Fatalf("%d us is in bucket %d, [%d, %d)", us, b, low, h.Bound(b))
		}
		if us >= 4 && b < len(h)-1 && float64(h.Bound(b)) > 1.25*float64(low) {
			t.Fatalf("bucket %d, [%d, %d), is wider than a quarter", b, low, h.Bound(b))
		}
	}
	if got := bucket(math.MaxUint32); got != len(h)-1 {
		t.Errorf("the longest time is in bucket %d", got)
	}
}

func TestQuantile(t *testing.T) {
	var none Histogram
	if us, ok := none.Quantile(0.5); ok || us != 0 {
		t.Errorf("without samples: %v, %t", us, ok)
	}
	var h Histogram
	for us := range uint32(1000) {
		h[bucket(us)]++
	}
	for _, tc := range []struct{ q, want float64 }{{0, 0}, {0.25, 250}, {0.5, 500}, {0.99, 990}, {1, 1000}, {2, 1000}, {-1, 0}} {
		if us, ok := h.Quantile(tc.q); !ok || math.Abs(us-tc.want) > 0.25*tc.want+1 {
			t.Errorf("quantile %v of 0..999: %v, want about %v", tc.q, us, tc.want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	a := sum([]accountCounters{filled(1), filled(100)})
	b := sum([]accountCounters{filled(1000)})
	if d := cmp.Diff(b, b.Add(a).Sub(a)); d != "" {
		// Open is the later reading's: what was added stays.
		got := b.Add(a).Sub(a)
		got.Open = b.Open
		if d := cmp.Diff(b, got); d != "" {
			t.Error(d)
		}
	}
	if got := (Counters{}).Sub(a); got != (Counters{}) {
		t.Errorf("less than nothing: %+v", got)
	}
	if a.RxBytes != 6*101 || a.TxPackets != 6*4*101 || a.By[V6][UDP].TxBytes != 3*101 || a.Opened != 5*101 || a.Retransmits != 9*101 || a.RTT.Count() != 101 {
		t.Errorf("sum %+v", a)
	}
	if want := uint64((5 + 6 - 8) * 101); a.Open != want {
		t.Errorf("open %d, want %d", a.Open, want)
	}
}

// filled gives each field a factor of its own.
func filled(n uint64) (c accountCounters) {
	for f := range c.Rx {
		for p := range c.Rx[f] {
			c.Rx[f][p].Bytes, c.Rx[f][p].Packets = n, 2*n
			c.Tx[f][p].Bytes, c.Tx[f][p].Packets = 3*n, 4*n
		}
	}
	c.Opened, c.Accepted, c.Failed, c.Closed, c.Retransmits = 5*n, 6*n, 7*n, 8*n, 9*n
	c.Rtt[10] = n
	return c
}

// A connection may be seen to end before it is seen to begin.
func TestOpenIsNeverNegative(t *testing.T) {
	if got := sum([]accountCounters{{Opened: 1, Closed: 2}}).Open; got != 0 {
		t.Errorf("open %d", got)
	}
}
