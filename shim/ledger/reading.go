package ledger

import "github.com/hachi-run/hachi/bpf/account"

// Reading is what a container has used so far. The names of its JSON fields are an interface of hachi and stay.
type Reading struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        string `json:"id"`
	// Bytes and packets are those of the IP layer, counted by segment.
	RxBytes   uint64 `json:"rx_bytes"`
	TxBytes   uint64 `json:"tx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
	// TCP connections: opened by the container, accepted by it, attempts that failed, attempts that policy refused, and
	// those that are open now.
	ConnectionsOpened   uint64 `json:"connections_opened"`
	ConnectionsAccepted uint64 `json:"connections_accepted"`
	ConnectionsFailed   uint64 `json:"connections_failed"`
	ConnectionsRefused  uint64 `json:"connections_refused"`
	ConnectionsOpen     uint64 `json:"connections_open"`
	// Retransmits counts TCP segments that were sent again.
	Retransmits uint64 `json:"retransmits"`
	RTT         RTT    `json:"rtt_us"`
	// CPU is in nanoseconds, Memory in bytes with the container's share of the page cache.
	CPU    uint64 `json:"cpu_ns"`
	Memory uint64 `json:"memory_bytes"`
}

// RTT is the round trip time of TCP connections in microseconds; 0 when there was none to measure.
type RTT struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Tally is a reading with what it was taken from, as far as several are to be added up.
type Tally struct {
	Reading
	// Counted says that eBPF counted the container's traffic; otherwise all that is zero.
	Counted bool `json:"counted"`
	// RoundTrips has what RTT has two figures of; see package account for its buckets.
	RoundTrips account.Histogram `json:"round_trips,omitzero"`
}
