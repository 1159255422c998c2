// Package flow records, in the kernel, how each TCP connection of a cgroup ended or goes on, and the DNS messages that
// its sockets exchange.
package flow

import (
	"net/netip"
	"time"
)

// A Record is one connection at its end, one that is still open, or one DNS message.
type Record struct {
	// Seq numbers the records of the node from 1. Who polls Recent knows by it what is new and what was missed.
	Seq    uint64
	Time   time.Time // when the record was made
	Cgroup uint64    // the pod's or container's cgroup id
	Kind   Kind
	// Cookie is the kernel's number of the socket: the same in all records of one connection.
	Cookie      uint64
	Direction   Direction
	Protocol    string // "tcp" or "udp"
	Local, Peer netip.AddrPort
	// Original is where the pod wanted to go if redirection sent it elsewhere: Peer then is the mesh endpoint.
	Original netip.AddrPort

	// For connections. Bytes are payload: what TCP was given to send, and took in order.
	TxBytes, RxBytes uint64
	// RTT is the kernel's smoothed round-trip time, MinRTT the shortest it saw lately; 0 if there was no sample.
	RTT, MinRTT time.Duration
	// Duration is from the SYN sent, or the connection accepted, to Time.
	Duration    time.Duration
	Retransmits uint64 // segments
	Verdict     Verdict
	Error       string // why a connection failed or was reset, if the kernel knows: "connection refused"

	DNS *DNS // for Kind KindDNS
}

// Kind says what a record is about.
type Kind string

const (
	KindConn Kind = "conn" // a connection that ended
	KindOpen Kind = "open" // a connection that goes on; its counts are those so far
	KindDNS  Kind = "dns"
)

// Direction says who began a connection, or sent a DNS message.
type Direction string

const (
	Out Direction = "out"
	In  Direction = "in"
)

// Verdict says how a connection ended, or that it goes on.
type Verdict string

const (
	OK         Verdict = "ok"         // ended in order, or open
	Failed     Verdict = "failed"     // was never established
	Reset      Verdict = "reset"      // ended by a reset of either side, or a timeout
	Refused    Verdict = "refused"    // denied by hachi's policy; no packet was sent
	Redirected Verdict = "redirected" // ok, by way of the mesh endpoint
)

// DNS is a question, or the answer to one. Messages over TCP, and above 512 bytes, are not seen in full.
type DNS struct {
	ID        uint16   `json:"id"`
	Response  bool     `json:"response"`
	Name      string   `json:"name"` // of the first question, with the final dot
	Type      string   `json:"type"` // "A", "AAAA", "SRV", ... or a number
	RCode     string   `json:"rcode,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // of A and AAAA answers
	// Truncated: the message was cut, by its sender or because it was longer than what is looked at.
	Truncated bool `json:"truncated,omitempty"`
}

// Losses are counts of what could not be recorded since the programs were loaded.
type Losses struct {
	// Ring counts records that a follower did not fetch in time. Without a follower nothing is lost this way.
	Ring uint64 `json:"ring"`
	// Untracked counts connections without a record, because the kernel had no memory for one.
	Untracked uint64 `json:"untracked"`
}
