package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// headSize is what every record in the ring has; the message's bytes follow in one of DNS.
const headSize = int(unsafe.Offsetof(flowRecord{}.Dns))

// raw copies a record of the ring, which ends after the part that means something.
func raw(b []byte) (r flowRecord, err error) {
	if len(b) < headSize {
		return r, fmt.Errorf("decode flow record: %d bytes, want at least %d", len(b), headSize)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), b)
	return r, nil
}

// decode makes sense of a record; boot is when the machine's clock stood at 0.
func decode(raw *flowRecord, boot time.Time) (Record, error) {
	r := Record{
		Seq: raw.Seq, Cgroup: raw.Cgroup, Cookie: raw.Cookie,
		Time: boot.Add(time.Duration(raw.Time)), Duration: time.Duration(raw.Duration),
		TxBytes: raw.TxBytes, RxBytes: raw.RxBytes, Retransmits: uint64(raw.Retransmits),
		RTT: time.Duration(raw.Rtt) * time.Microsecond, MinRTT: time.Duration(raw.MinRtt) * time.Microsecond,
	}
	var errs [5]error
	r.Kind, errs[0] = pick("kind", raw.Kind, KindConn, KindOpen, KindDNS)
	r.Direction, errs[1] = pick("direction", raw.Direction, Out, In)
	r.Verdict, errs[2] = pick("verdict", raw.Verdict, OK, Failed, Reset, Refused)
	r.Local, errs[3] = endpoint(raw.Local.Addr, raw.Local.Port, raw.Local.Family)
	r.Peer, errs[4] = endpoint(raw.Peer.Addr, raw.Peer.Port, raw.Peer.Family)
	if err := errors.Join(errs[:]...); err != nil {
		return Record{}, fmt.Errorf("decode flow record: %w", err)
	}
	switch raw.Protocol {
	case unix.IPPROTO_TCP:
		r.Protocol = "tcp"
	case unix.IPPROTO_UDP:
		r.Protocol = "udp"
	default:
		return Record{}, fmt.Errorf("decode flow record: unknown protocol %d", raw.Protocol)
	}
	if raw.Error != 0 {
		r.Error = unix.Errno(raw.Error).Error()
	}
	if raw.Original.Family != 0 {
		var err error
		if r.Original, err = endpoint(raw.Original.Addr, raw.Original.Port, raw.Original.Family); err != nil {
			return Record{}, fmt.Errorf("decode flow record: %w", err)
		}
		if r.Verdict == OK {
			r.Verdict = Redirected
		}
	}
	if r.Kind == KindDNS {
		kept := raw.Dns[:min(int(raw.DnsSize), len(raw.Dns))]
		r.DNS = parseDNS(kept, int(raw.DnsSize) > len(kept))
	}
	return r, nil
}

// pick translates one of the program's numbers.
func pick[N ~uint8, T any](what string, n N, names ...T) (name T, err error) {
	if int(n) >= len(names) {
		return name, fmt.Errorf("unknown %s %d", what, n)
	}
	return names[n], nil
}

func endpoint(addr [4]uint32, port, family uint16) (netip.AddrPort, error) {
	var b [16]byte
	for i, word := range addr {
		binary.NativeEndian.PutUint32(b[4*i:], word)
	}
	switch family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), port), nil
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), port), nil
	}
	return netip.AddrPort{}, fmt.Errorf("unknown address family %d", family)
}
