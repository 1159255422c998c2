package node

import (
	"net/netip"
	"time"

	"github.com/hachi-run/hachi/bpf/flow"
)

// Flow is a flow record with the names of its container. The names of its JSON fields are an interface of hachi and
// stay.
type Flow struct {
	// The names are empty when nothing is known of the cgroup any more.
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        string `json:"id"`

	// Seq numbers the records of the node from 1.
	Seq       uint64         `json:"seq"`
	Time      time.Time      `json:"time"`
	Kind      flow.Kind      `json:"kind"`
	Direction flow.Direction `json:"direction"`
	Protocol  string         `json:"protocol"`
	Local     netip.AddrPort `json:"local"`
	Peer      netip.AddrPort `json:"peer"`
	// Original is where the container wanted to connect to, if that was redirected.
	Original *netip.AddrPort `json:"original_destination,omitempty"`
	// Exactly one of these two is there.
	*Connection
	DNS *flow.DNS `json:"dns,omitempty"`
}

// Connection is what is known of a TCP connection that ended, or goes on.
type Connection struct {
	TxBytes uint64 `json:"tx_bytes"`
	RxBytes uint64 `json:"rx_bytes"`
	// RTT is the smoothed round trip time; null when it was not measured.
	RTT         *int64       `json:"rtt_us"`
	Duration    int64        `json:"duration_us"`
	Retransmits uint64       `json:"retransmits"`
	Verdict     flow.Verdict `json:"verdict"`
	// Error is why it failed, if the kernel knows.
	Error string `json:"error,omitempty"`
}

// flow gives a record its names.
func (n *names) flow(r flow.Record) Flow {
	o := n.of(r.Cgroup)
	f := Flow{
		Namespace: o.namespace, Pod: o.pod, Container: o.container, ID: o.id,
		Seq: r.Seq, Time: r.Time, Kind: r.Kind, Direction: r.Direction, Protocol: r.Protocol,
		Local: r.Local, Peer: r.Peer, DNS: r.DNS,
	}
	if r.Original.IsValid() {
		f.Original = &r.Original
	}
	if r.Kind != flow.KindDNS {
		f.Connection = &Connection{
			TxBytes: r.TxBytes, RxBytes: r.RxBytes, Duration: r.Duration.Microseconds(),
			Retransmits: r.Retransmits, Verdict: r.Verdict, Error: r.Error,
		}
		if r.RTT > 0 {
			us := r.RTT.Microseconds()
			f.RTT = &us
		}
	}
	return f
}
