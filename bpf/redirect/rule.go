package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"github.com/cilium/ebpf"
	"math/bits"
	"net/netip"
	"slices"
)

// rules turns the lists of a Config into keys of the prefix tree that the programs of all pods share, and into the set
// of kinds that occur, as in settings.rules of redirect.h.
type rules struct {
	keys  map[outboundRule]struct{}
	kinds uint32
}

func newRules() *rules { return &rules{keys: map[outboundRule]struct{}{}} }

func (c Config) outboundRules(pod uint64) *rules {
	r := newRules()
	r.ports(pod, outboundKindOUT_SKIP_PORT, c.Outbound.SkipPorts)
	r.prefixes(pod, outboundKindOUT_SKIP_V4, outboundKindOUT_SKIP_V6, c.Outbound.SkipCIDRs)
	return r
}

func (c Config) inboundRules(pod uint64) *rules {
	r := newRules()
	r.ports(pod, outboundKindIN_SKIP_PORT, c.Inbound.SkipPorts)
	r.prefixes(pod, outboundKindIN_SKIP_V4, outboundKindIN_SKIP_V6, c.Inbound.SkipCIDRs)
	if !slices.Contains(c.Inbound.Ports, AllPorts) {
		r.ports(pod, outboundKindIN_ONLY_PORT, c.Inbound.Ports)
	}
	return r
}

func (r *rules) add(pod uint64, kind outboundKind, data []byte, n int) {
	key := outboundRule{Bits: uint32(32 + 64 + n), Kind: kind, Pod: pod}
	var raw [16]byte
	copy(raw[:], data)
	for i := range key.Data {
		key.Data[i] = binary.NativeEndian.Uint32(raw[4*i:])
	}
	r.keys[key] = struct{}{}
	r.kinds |= 1 << kind
}

func (r *rules) prefixes(pod uint64, v4, v6 outboundKind, list []netip.Prefix) {
	for _, p := range list {
		kind := v6
		if p.Addr().Is4() {
			kind = v4
		}
		r.add(pod, kind, p.Masked().Addr().AsSlice(), p.Bits())
	}
}

func (r *rules) ports(pod uint64, kind outboundKind, list []PortRange) {
	for _, ports := range list {
		for first, last := uint32(ports.First), uint32(ports.Last); first <= last; {
			// The largest aligned block that begins here and does not end after the range.
			block := uint32(1) << min(bits.TrailingZeros32(first|1<<16), bits.Len32(last-first+1)-1)
			r.add(pod, kind, binary.BigEndian.AppendUint16(nil, uint16(first)), 16-bits.TrailingZeros32(block))
			first += block
		}
	}
}

// Kinds as bits.
const (
	outboundKinds uint32 = 1<<outboundKindOUT_SKIP_PORT | 1<<outboundKindOUT_SKIP_V4 | 1<<outboundKindOUT_SKIP_V6
	inboundKinds  uint32 = 1<<outboundKindIN_SKIP_PORT | 1<<outboundKindIN_SKIP_V4 | 1<<outboundKindIN_SKIP_V6 | 1<<outboundKindIN_ONLY_PORT
)

func (r *Redirector) addRules(want *rules) error {
	for key := range want.keys {
		if err := r.rules.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("write rule: %w", err)
		}
	}
	return nil
}

// keepRules removes the pod's rules of these kinds that are not wanted.
func (r *Redirector) keepRules(pod uint64, kinds uint32, want *rules) error {
	var (
		key   outboundRule
		value uint32
		stale []outboundRule
	)
	all := r.rules.Iterate()
	for all.Next(&key, &value) {
		if _, wanted := want.keys[key]; key.Pod == pod && kinds&(1<<key.Kind) != 0 && !wanted {
			stale = append(stale, key)
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, key := range stale {
		if err := r.rules.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove rule: %w", err)
		}
	}
	return nil
}
