// Package metrics has the messages in which containerd asks for what a cgroup has used, in either version's terms.
// They are encoded here and decoded elsewhere. containerd's own packages of them bring along what reflects on
// messages, and systemd's bus (docs/rationale/server.md).
package metrics

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// What containerd calls the messages in an Any.
const (
	v1URL = "io.containerd.cgroups.v1.Metrics"
	v2URL = "io.containerd.cgroups.v2.Metrics"
)

// Message is a *V1 or a *V2.
type Message interface {
	// TypeURL names the message in an Any, as containerd's typeurl does, whose value MarshalVT makes.
	TypeURL() string
	MarshalVT() ([]byte, error)
	// AddNetwork adds the traffic of one more interface.
	AddNetwork(*Network)
	// CountOOM shows at least one process that the kernel killed for want of memory.
	CountOOM()
}

// AppendNetwork does what AddNetwork does to a message that is encoded already, and appends to its bytes. The error for
// a typeURL that is neither version's is errdefs.ErrInvalidArgument.
func AppendNetwork(body []byte, typeURL string, n *Network) ([]byte, error) {
	var m Message
	switch typeURL {
	case v1URL:
		m = new(V1)
	case v2URL:
		m = new(V2)
	default:
		return nil, fmt.Errorf("metrics of type %q: not those of a cgroup: %w", typeURL, errdefs.ErrInvalidArgument)
	}
	m.AddNetwork(n)
	more, err := m.MarshalVT()
	if err != nil {
		return nil, err
	}
	// Two encoded messages in a row are one that has the repeated fields of both (protobuf.dev, "Last One Wins").
	return append(body, more...), nil
}

// TypeURL implements Message.
func (m *V1) TypeURL() string { return v1URL }

// AddNetwork implements Message.
func (m *V1) AddNetwork(n *Network) { m.Network = append(m.Network, n) }

// CountOOM implements Message.
func (m *V1) CountOOM() {
	if m.MemoryOomControl == nil {
		m.MemoryOomControl = new(V1OOMControl)
	}
	m.MemoryOomControl.OomKill = max(m.MemoryOomControl.OomKill, 1)
}

// TypeURL implements Message.
func (m *V2) TypeURL() string { return v2URL }

// AddNetwork implements Message.
func (m *V2) AddNetwork(n *Network) { m.Network = append(m.Network, n) }

// CountOOM implements Message.
func (m *V2) CountOOM() {
	if m.MemoryEvents == nil {
		m.MemoryEvents = new(V2MemoryEvents)
	}
	m.MemoryEvents.OomKill = max(m.MemoryEvents.OomKill, 1)
}
