package account

import "math/bits"

// Family and Protocol index Counters.By.
type (
	Family   int
	Protocol int
)

const (
	V4 Family = iota
	V6
	families
)

const (
	TCP Protocol = iota
	UDP
	Other // ICMP, SCTP, and what could not be told
	protocols
)

func (f Family) String() string   { return [...]string{"ipv4", "ipv6"}[f] }
func (p Protocol) String() string { return [...]string{"tcp", "udp", "other"}[p] }

// Traffic counts from the IP header on, as the kernel's own IpExt octets do. A packet that the device or the receiver
// handles as one piece of several segments (GSO, GRO) counts as so many packets, and its headers once. A fragmented
// datagram is one packet, for fragments are made after and put together before the counting.
type Traffic struct {
	RxBytes, TxBytes, RxPackets, TxPackets uint64
}

// Counters are what the sockets of one cgroup, and of the cgroups below it, did since it was attached. All of them only
// grow, except Open.
//
// Packets without a socket are not counted: the last ones of a connection that the kernel keeps in TIME_WAIT, and resets
// from ports nobody listens on. Linux 6.1 does not show the SYN-ACKs of IPv6 either; 6.18 does.
type Counters struct {
	Traffic // the sum of By
	By      [families][protocols]Traffic

	Opened      uint64 // TCP connections the pod made; an attempt counts when it succeeds
	Accepted    uint64 // TCP connections the pod was called with
	Failed      uint64 // attempts that sent a SYN and got no connection
	Refused     uint64 // attempts that hachi's own policy denied
	Open        uint64 // connections now; a gauge
	Retransmits uint64 // TCP segments sent again, SYNs included
	// RTT has the kernel's smoothed round-trip time of a connection when it is established, when it ends, and at every
	// 64th segment that the pod sends on one CPU.
	RTT Histogram
}

// Add returns the sum, for pods of several containers.
func (c Counters) Add(o Counters) Counters {
	return c.merge(o, func(a, b uint64) uint64 { return a + b }, c.Open+o.Open)
}

// Sub returns what happened between an earlier reading o and c. Open is c's.
func (c Counters) Sub(o Counters) Counters {
	return c.merge(o, func(a, b uint64) uint64 { return a - min(a, b) }, c.Open)
}

func (c Counters) merge(o Counters, f func(a, b uint64) uint64, open uint64) Counters {
	c.Traffic = c.Traffic.merge(o.Traffic, f)
	for family := range c.By {
		for protocol := range c.By[family] {
			c.By[family][protocol] = c.By[family][protocol].merge(o.By[family][protocol], f)
		}
	}
	c.Opened, c.Accepted = f(c.Opened, o.Opened), f(c.Accepted, o.Accepted)
	c.Failed, c.Refused = f(c.Failed, o.Failed), f(c.Refused, o.Refused)
	c.Retransmits = f(c.Retransmits, o.Retransmits)
	c.Open = open
	for i := range c.RTT {
		c.RTT[i] = f(c.RTT[i], o.RTT[i])
	}
	return c
}

func (t Traffic) merge(o Traffic, f func(a, b uint64) uint64) Traffic {
	return Traffic{f(t.RxBytes, o.RxBytes), f(t.TxBytes, o.TxBytes), f(t.RxPackets, o.RxPackets), f(t.TxPackets, o.TxPackets)}
}

// Histogram counts round-trip times: one bucket per microsecond below 4, then four to the octave, up to 33 s. The last
// one also has what is longer.
type Histogram [96]uint64

// Bound returns the first microsecond above bucket i.
func (Histogram) Bound(i int) uint64 {
	if i < 3 {
		return uint64(i) + 1
	}
	octave, quarter := uint64(i+1)/4+1, uint64(i+1)%4
	return (4 + quarter) << (octave - 2)
}

// Count returns the number of samples.
func (h Histogram) Count() (n uint64) {
	for _, b := range h {
		n += b
	}
	return n
}

// Quantile returns the time in microseconds that a share q (0 to 1) of the samples does not exceed, as if each bucket's
// samples lay evenly in it: at most 25 % off. ok is false without samples.
func (h Histogram) Quantile(q float64) (us float64, ok bool) {
	n := h.Count()
	if n == 0 {
		return 0, false
	}
	rank := min(max(q, 0), 1) * float64(n)
	var below, low float64
	for i, b := range h {
		high := float64(h.Bound(i))
		if b > 0 && below+float64(b) >= rank {
			return low + (high-low)*(rank-below)/float64(b), true
		}
		below, low = below+float64(b), high
	}
	return low, true
}

// bucket is the index of a time in microseconds, as account.c has it.
func bucket(us uint32) int {
	if us < 4 {
		return int(us)
	}
	octave := bits.Len32(us) - 1
	return min((octave-1)*4+int(us>>(octave-2)&3), len(Histogram{})-1)
}
