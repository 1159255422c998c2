package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func connection() flowRecord {
	r := flowRecord{Seq: 3, End: 3, Time: uint64(2 * time.Second), Cgroup: 9, Cookie: 8, Duration: 5000, TxBytes: 1, RxBytes: 2, Rtt: 30, MinRtt: 20, Retransmits: 4,
		Direction: flowRecordDirectionDIRECTION_OUT, Protocol: unix.IPPROTO_TCP}
	r.Local.Family, r.Local.Addr[0], r.Local.Port = unix.AF_INET, 0x0100007f, 4000
	r.Peer.Family, r.Peer.Port = unix.AF_INET6, 80
	r.Peer.Addr = [4]uint32{0, 0, 0xffff0000, 0x020000c0} // ::ffff:192.0.0.2
	return r
}

func TestDecode(t *testing.T) {
	boot := time.Unix(1000, 0)
	want := Record{Seq: 3, Time: boot.Add(2 * time.Second), Cgroup: 9, Kind: KindConn, Cookie: 8, Direction: Out, Protocol: "tcp",
		Local: netip.MustParseAddrPort("127.0.0.1:4000"), Peer: netip.MustParseAddrPort("192.0.0.2:80"),
		TxBytes: 1, RxBytes: 2, RTT: 30 * time.Microsecond, MinRTT: 20 * time.Microsecond, Duration: 5 * time.Microsecond, Retransmits: 4, Verdict: OK}
	for _, tc := range []struct {
		name   string
		change func(*flowRecord)
		want   func(*Record)
	}{
		{"as it is", func(*flowRecord) {}, func(*Record) {}},
		{"redirected", func(r *flowRecord) {
			r.Original.Family, r.Original.Port = unix.AF_INET, 443
		}, func(r *Record) {
			r.Verdict, r.Original = Redirected, netip.MustParseAddrPort("0.0.0.0:443")
		}},
		{"redirected and reset", func(r *flowRecord) {
			r.Original.Family, r.Original.Port = unix.AF_INET, 443
			r.Verdict = flowRecordVerdictVERDICT_RESET
		}, func(r *Record) {
			r.Verdict, r.Original = Reset, netip.MustParseAddrPort("0.0.0.0:443")
		}},
		{"refused", func(r *flowRecord) {
			r.Verdict, r.Error = flowRecordVerdictVERDICT_REFUSED, uint16(unix.ECONNREFUSED)
		}, func(r *Record) {
			r.Verdict, r.Error = Refused, "connection refused"
		}},
		{"an open one of a peer's", func(r *flowRecord) {
			r.Kind, r.Direction = flowRecordKindRECORD_OPEN, flowRecordDirectionDIRECTION_IN
		}, func(r *Record) {
			r.Kind, r.Direction = KindOpen, In
		}},
	} {
		raw, want := connection(), want
		tc.change(&raw)
		tc.want(&want)
		got, err := decode(&raw, boot)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s: want (-), got (+):\n%s", tc.name, d)
		}
	}
}

func TestDecodeWhatNoProgramWrites(t *testing.T) {
	for name, change := range map[string]func(*flowRecord){
		"kind":      func(r *flowRecord) { r.Kind = 3 },
		"direction": func(r *flowRecord) { r.Direction = 2 },
		"verdict":   func(r *flowRecord) { r.Verdict = 4 },
		"protocol":  func(r *flowRecord) { r.Protocol = 1 },
		"family":    func(r *flowRecord) { r.Peer.Family = 1 },
		"original":  func(r *flowRecord) { r.Original.Family = 1 },
	} {
		r := connection()
		change(&r)
		if got, err := decode(&r, time.Time{}); err == nil {
			t.Errorf("unknown %s: %+v", name, got)
		}
	}
	if _, err := raw(make([]byte, headSize-1)); err == nil {
		t.Error("a record without its end")
	}
}

func TestLatest(t *testing.T) {
	records := []Record{
		{Seq: 1, Kind: KindOpen, Cookie: 1}, {Seq: 2, Kind: KindOpen, Cookie: 2}, {Seq: 3, Kind: KindDNS, Cookie: 1},
		{Seq: 4, Kind: KindConn, Cookie: 1}, {Seq: 5, Kind: KindConn, Cookie: 1}, {Seq: 6, Kind: KindOpen, Cookie: 2}, {Seq: 7, Kind: KindOpen, Cookie: 3},
	}
	var got []uint64
	for _, r := range latest(records) {
		got = append(got, r.Seq)
	}
	if d := cmp.Diff([]uint64{3, 4, 5, 6, 7}, got); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}
