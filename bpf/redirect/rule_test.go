package redirect

import (
	"encoding/binary"
	"math/bits"
	"testing"
)

// A range becomes prefixes that hold each of its ports once and no other, and as few as possible.
func TestPortRangesBecomePrefixes(t *testing.T) {
	for _, tc := range []struct {
		ports PortRange
		keys  int
	}{
		{PortRange{80, 80}, 1},
		{PortRange{0, 65535}, 1},
		{PortRange{1, 65535}, 16},
		{PortRange{1, 65534}, 30},
		{PortRange{8000, 8999}, 6},
		{PortRange{65535, 65535}, 1},
	} {
		r := newRules()
		r.ports(7, outboundKindOUT_SKIP_PORT, []PortRange{tc.ports})
		covered := map[uint16]int{}
		for key := range r.keys {
			n := int(key.Bits) - 32 - 64
			first := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint32(nil, key.Data[0]))
			if n < 16 && bits.TrailingZeros16(first) < 16-n {
				t.Errorf("%s: prefix %d/%d has bits beyond its length", tc.ports, first, n)
			}
			for p := uint32(first); p < uint32(first)+1<<(16-n); p++ {
				covered[uint16(p)]++
			}
			if key.Pod != 7 || key.Kind != outboundKindOUT_SKIP_PORT {
				t.Errorf("%s: key of pod %d, kind %d", tc.ports, key.Pod, key.Kind)
			}
		}
		if len(r.keys) != tc.keys {
			t.Errorf("%s: %d prefixes, want %d", tc.ports, len(r.keys), tc.keys)
		}
		for p := range 65536 {
			want := 0
			if p >= int(tc.ports.First) && p <= int(tc.ports.Last) {
				want = 1
			}
			if covered[uint16(p)] != want {
				t.Fatalf("%s: port %d is covered %d times, want %d", tc.ports, p, covered[uint16(p)], want)
			}
		}
	}
}

func TestAllInboundPortsNeedNoRule(t *testing.T) {
	r := Config{Inbound: Inbound{Ports: []PortRange{AllPorts}}}.inboundRules(1)
	if len(r.keys) != 0 || r.kinds != 0 {
		t.Errorf("got %d rules of kinds %b", len(r.keys), r.kinds)
	}
}
