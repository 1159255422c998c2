package observe_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// recent returns the node's records of one pod.
func (w *world) recent(t testing.TB, p *bpfenv.Pod) []flow.Record {
	t.Helper()
	all, err := w.o.Recent()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r flow.Record) bool { return r.Cgroup != p.ID })
}

// one returns the pod's only record.
func (w *world) one(t testing.TB, p *bpfenv.Pod) flow.Record {
	t.Helper()
	records := w.recent(t, p)
	if len(records) != 1 {
		t.Fatalf("%d records, want one: %+v", len(records), records)
	}
	return records[0]
}

// told leaves out what a test cannot know exactly.
var told = cmp.Options{cmpopts.IgnoreFields(flow.Record{}, "Seq", "Time", "Cookie", "RTT", "MinRTT", "Duration"), cmpopts.EquateComparable(netip.AddrPort{})}

func address(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

func TestRecordOfAConnection(t *testing.T) {
	for _, tc := range []struct {
		name     string
		at       func(bpfenv.Wire) netip.Addr
		up, down int
		lossy    bool
	}{
		{"IPv4", func(w bpfenv.Wire) netip.Addr { return w.B4 }, 1000, 3 << 20, false},
		{"IPv6", func(w bpfenv.Wire) netip.Addr { return w.B6 }, 2 << 20, 1, false},
		{"without payload", func(w bpfenv.Wire) netip.Addr { return w.B4 }, 0, 0, false},
		{"with losses", func(w bpfenv.Wire) netip.Addr { return w.B4 }, 1 << 20, 10, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			l := w.server.Listen(t, bpfenv.Free(tc.at(w.wire)))
			start := time.Now()
			c, s := bpfenv.Pair(t, w.client, l)
			if tc.lossy {
				stop := bpfenv.Drop(t, w.server.Cgroup, 10)
				bpfenv.Exchange(t, c, s, tc.up, 0)
				stop()
				bpfenv.Exchange(t, c, s, 0, tc.down)
			} else {
				bpfenv.Exchange(t, c, s, tc.up, tc.down)
			}
			before := bpfenv.TCPInfo(t, c)
			want := flow.Record{Cgroup: w.client.ID, Kind: flow.KindConn, Direction: flow.Out, Protocol: "tcp", Local: address(c.LocalAddr()), Peer: address(c.RemoteAddr()),
				TxBytes: uint64(tc.up), RxBytes: uint64(tc.down), Verdict: flow.OK}
			atServer := flow.Record{Cgroup: w.server.ID, Kind: flow.KindConn, Direction: flow.In, Protocol: "tcp", Local: want.Peer, Peer: want.Local,
				TxBytes: uint64(tc.down), RxBytes: uint64(tc.up), Verdict: flow.OK}
			bpfenv.CloseInOrder(t, c, s)
			end := time.Now()

			want.Retransmits = w.read(t, w.client).Retransmits
			atServer.Retransmits = w.read(t, w.server).Retransmits
			got, gotServer := w.one(t, w.client), w.one(t, w.server)
			if d := cmp.Diff(want, got, told); d != "" {
				t.Errorf("client: want (-), got (+):\n%s", d)
			}
			if d := cmp.Diff(atServer, gotServer, told); d != "" {
				t.Errorf("server: want (-), got (+):\n%s", d)
			}
			if tc.lossy && got.Retransmits < uint64(before.Total_retrans) || tc.lossy && got.Retransmits == 0 {
				t.Errorf("%d retransmits; the socket had %d before it closed", got.Retransmits, before.Total_retrans)
			}
			for _, r := range []flow.Record{got, gotServer} {
				if r.Time.Before(start) || r.Time.After(end.Add(time.Millisecond)) || r.Duration <= 0 || r.Duration > end.Sub(start) {
					t.Errorf("from %v to %v: time %v, duration %v", start, end, r.Time, r.Duration)
				}
				if r.RTT <= 0 || r.MinRTT <= 0 || r.RTT > end.Sub(start) || r.Cookie == 0 || r.Seq == 0 {
					t.Errorf("RTT %v, shortest %v, cookie %d, number %d", r.RTT, r.MinRTT, r.Cookie, r.Seq)
				}
			}
			if got.Cookie == gotServer.Cookie || got.Seq == gotServer.Seq {
				t.Errorf("two records with one cookie or number: %d and %d", got.Cookie, got.Seq)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Dial("tcp", netip.AddrPortFrom(w.wire.B4, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("dial: %v", err)
		}
		r := w.one(t, w.client)
		if r.Verdict != flow.Failed || r.Error != "connection refused" || r.Peer != netip.AddrPortFrom(w.wire.B4, 1) || r.Local.Addr() != w.wire.A4 || r.Direction != flow.Out {
			t.Errorf("%+v", r)
		}
	})
	t.Run("reset", func(t *testing.T) {
		w := newWorld(t)
		c, s := bpfenv.Pair(t, w.client, w.server.Listen(t, bpfenv.Free(w.wire.B4)))
		bpfenv.Exchange(t, c, s, 10, 10)
		if err := c.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("read: %v", err)
		}
		if r := w.one(t, w.client); r.Verdict != flow.Reset || r.TxBytes != 10 || r.RxBytes != 10 {
			t.Errorf("who resets: %+v", r)
		}
		if r := w.one(t, w.server); r.Verdict != flow.Reset || r.Error != "connection reset by peer" {
			t.Errorf("who is reset: %+v", r)
		}
	})
	t.Run("a socket's second connection", func(t *testing.T) {
		w := newWorld(t)
		fd, err := w.client.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
		to := &unix.SockaddrInet4{Port: 1, Addr: w.wire.B4.As4()}
		for range 2 {
			if err := unix.Connect(fd, to); err != unix.ECONNREFUSED {
				t.Fatalf("connect: %v", err)
			}
		}
		records := w.recent(t, w.client)
		if len(records) != 2 || records[0].Cookie != records[1].Cookie || records[1].Duration > records[1].Time.Sub(records[0].Time) {
			t.Errorf("%+v", records)
		}
	})
}

// impatient makes open connections be recorded whenever somebody asks.
func impatient(t *testing.T) {
	t.Helper()
	wish, err := ebpf.LoadPinnedMap(filepath.Join(rootOf(t), pin.Version, "map", "hachi_wish"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := wish.Put(uint32(0), [2]uint64{}); err != nil {
			t.Error(err)
		}
		wish.Close()
	})
	if err := wish.Put(uint32(0), [2]uint64{0, 1}); err != nil {
		t.Fatal(err)
	}
}

func TestOpenConnection(t *testing.T) {
	w := newWorld(t)
	c, s := bpfenv.Pair(t, w.client, w.server.Listen(t, bpfenv.Free(w.wire.B4)))
	bpfenv.Exchange(t, c, s, 100, 5000)
	if r := w.recent(t, w.client); len(r) != 0 {
		t.Errorf("a young connection is recorded: %+v", r)
	}
	impatient(t)
	first := w.one(t, w.client)
	want := flow.Record{Cgroup: w.client.ID, Kind: flow.KindOpen, Direction: flow.Out, Protocol: "tcp", Local: address(c.LocalAddr()), Peer: address(c.RemoteAddr()),
		TxBytes: 100, RxBytes: 5000, Verdict: flow.OK}
	if d := cmp.Diff(want, first, told); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
	bpfenv.Exchange(t, c, s, 1, 1)
	second := w.one(t, w.client) // and the first one is stale
	if second.TxBytes != 101 || second.Cookie != first.Cookie || second.Seq <= first.Seq || second.Duration <= first.Duration {
		t.Errorf("later: %+v", second)
	}
	bpfenv.CloseInOrder(t, c, s)
	if last := w.one(t, w.client); last.Kind != flow.KindConn || last.TxBytes != 101 || last.RxBytes != 5001 || last.Cookie != first.Cookie {
		t.Errorf("in the end: %+v", last)
	}
}

func question(t testing.TB, id uint16, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func answer(t testing.TB, q []byte, rcode dnsmessage.RCode, addrs ...netip.Addr) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		t.Fatal(err)
	}
	m.Response, m.RCode = true, rcode
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		var body dnsmessage.ResourceBody
		if a.Is4() {
			body = &dnsmessage.AResource{A: a.As4()}
		} else {
			body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDNS(t *testing.T) {
	const name = "api.default.svc.cluster.local."
	many := make([]netip.Addr, 40)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
	}
	for _, tc := range []struct {
		name    string
		at      func(bpfenv.Wire) netip.Addr
		q       []byte
		rcode   dnsmessage.RCode
		addrs   []netip.Addr
		want    flow.DNS
		atLeast int // addresses of a message that is cut
	}{
		{"addresses", func(w bpfenv.Wire) netip.Addr { return w.B4 }, question(t, 7, name, dnsmessage.TypeA), dnsmessage.RCodeSuccess,
			[]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
			flow.DNS{ID: 7, Response: true, Name: name, Type: "A", RCode: "Success", Addresses: []string{"192.0.2.1", "192.0.2.2"}}, 0},
		{"by IPv6", func(w bpfenv.Wire) netip.Addr { return w.B6 }, question(t, 8, name, dnsmessage.TypeAAAA), dnsmessage.RCodeSuccess,
			[]netip.Addr{netip.MustParseAddr("2001:db8::1")},
			flow.DNS{ID: 8, Response: true, Name: name, Type: "AAAA", RCode: "Success", Addresses: []string{"2001:db8::1"}}, 0},
		{"no such name", func(w bpfenv.Wire) netip.Addr { return w.B4 }, question(t, 9, name, dnsmessage.TypeSRV), dnsmessage.RCodeNameError, nil,
			flow.DNS{ID: 9, Response: true, Name: name, Type: "SRV", RCode: "NameError"}, 0},
		{"longer than is looked at", func(w bpfenv.Wire) netip.Addr { return w.B4 }, question(t, 10, name, dnsmessage.TypeA), dnsmessage.RCodeSuccess, many,
			flow.DNS{ID: 10, Response: true, Name: name, Type: "A", RCode: "Success", Truncated: true}, 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			server := w.server.PacketConn(t, netip.AddrPortFrom(tc.at(w.wire), 53))
			client, err := w.client.Dial("udp", address(server.LocalAddr()))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write(tc.q); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := server.WriteTo(answer(t, buf[:n], tc.rcode, tc.addrs...), from); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(buf); err != nil {
				t.Fatal(err)
			}

			records := w.recent(t, w.client)
			if len(records) != 2 {
				t.Fatalf("%d records, want question and answer: %+v", len(records), records)
			}
			asked := tc.want
			asked.Response, asked.RCode, asked.Addresses, asked.Truncated = false, "", nil, false
			if tc.atLeast > 0 {
				if got := len(records[1].DNS.Addresses); got < tc.atLeast || got >= len(many) {
					t.Errorf("%d addresses of a cut message", got)
				}
				records[1].DNS.Addresses = nil
			}
			for i, want := range []flow.Record{
				{Direction: flow.Out, DNS: &asked},
				{Direction: flow.In, DNS: &tc.want},
			} {
				want.Cgroup, want.Kind, want.Protocol, want.Verdict = w.client.ID, flow.KindDNS, "udp", flow.OK
				want.Local, want.Peer = address(client.LocalAddr()), address(server.LocalAddr())
				if d := cmp.Diff(want, records[i], told); d != "" {
					t.Errorf("record %d: want (-), got (+):\n%s", i, d)
				}
			}
			if got := w.recent(t, w.server); len(got) != 0 {
				t.Errorf("the DNS server's own side is recorded: %+v", got)
			}
		})
	}
}

// What is no DNS, on its port, is recorded as what can be read of it, and other ports are left alone.
func TestNotDNS(t *testing.T) {
	w := newWorld(t)
	for port, payload := range map[uint16]string{53: "?", 54: "no DNS"} {
		c, err := w.client.Dial("udp", netip.AddrPortFrom(w.wire.B4, port))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(payload)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if r := w.one(t, w.client); r.Peer.Port() != 53 || r.DNS == nil || !cmp.Equal(*r.DNS, flow.DNS{}) {
		t.Errorf("%+v, %+v", r, r.DNS)
	}
}

// More records than there is room for: the newest stay, numbered without a gap.
func TestRecentKeepsTheNewest(t *testing.T) {
	w := newWorld(t)
	c, err := w.client.Dial("udp", netip.AddrPortFrom(w.wire.B4, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const room = 4096
	before, err := w.o.Lost()
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint16(room + 1000) {
		q := question(t, id, "a.", dnsmessage.TypeA)
		// The error of the last one: nobody listens there.
		for {
			if _, err := c.Write(q); err == nil {
				break
			} else if !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
	}
	all, err := w.o.Recent()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != room {
		t.Fatalf("%d records, want %d", len(all), room)
	}
	for i, r := range all {
		if r.Seq != all[0].Seq+uint64(i) || r.DNS == nil || r.DNS.ID != uint16(1000+i) {
			t.Fatalf("record %d of %d: %+v, %+v", i, room, r, r.DNS)
		}
	}
	if lost, err := w.o.Lost(); err != nil || lost != before {
		t.Errorf("nobody follows, and yet lost: %+v, before %+v, %v", lost, before, err)
	}
}

func TestFollow(t *testing.T) {
	w := newWorld(t)
	l := w.server.Listen(t, bpfenv.Free(w.wire.B4))
	once := func() {
		c, s := bpfenv.Pair(t, w.client, l)
		bpfenv.Exchange(t, c, s, 10, 10)
		bpfenv.CloseInOrder(t, c, s)
	}
	once() // before anybody follows
	before, err := w.o.Lost()
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	records := make(chan flow.Record, 1000)
	ended := make(chan error, 1)
	go func() { ended <- w.o.Follow(ctx, func(r flow.Record) { records <- r }) }()
	following := time.Now()
	bpfenv.Eventually(t, "a record", func() bool { once(); return len(records) > 0 })
	if err := w.o.Follow(ctx, func(flow.Record) {}); !errors.Is(err, pin.ErrClaimed) {
		t.Errorf("a second follower: %v", err)
	}
	const n = 50
	for range n {
		once()
	}
	var ends []flow.Record
	for len(ends) < n {
		select {
		case r := <-records:
			if r.Kind == flow.KindConn && r.Cgroup == w.client.ID {
				ends = append(ends, r)
			}
		case <-time.After(bpfenv.Timeout):
			t.Fatalf("%d records came, want %d", len(ends), n)
		}
	}
	for i, r := range ends {
		if r.TxBytes != 10 || r.RxBytes != 10 || r.Verdict != flow.OK || r.Time.Before(following.Add(-time.Second)) {
			t.Fatalf("%+v", r)
		}
		if i > 0 && r.Seq <= ends[i-1].Seq {
			t.Errorf("record %d follows %d", r.Seq, ends[i-1].Seq)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if lost, err := w.o.Lost(); err != nil || lost != before {
		t.Errorf("lost %+v, before %+v, %v", lost, before, err)
	}
	// What comes when nobody follows is not lost, and not kept for the next one.
	once()
	got := 0
	c2, cancel2 := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel2()
	if err := w.o.Follow(c2, func(r flow.Record) {
		if r.Kind == flow.KindConn {
			got++
		}
	}); err != nil || got != 0 {
		t.Errorf("the next follower got %d records from before, %v", got, err)
	}
}

// A follower that does not keep up loses records, and the kernel counts them.
func TestSlowFollower(t *testing.T) {
	w := newWorld(t)
	c, err := w.client.Dial("udp", netip.AddrPortFrom(w.wire.B4, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() {
		// Nobody listens, which some of the writes are told.
		_, _ = c.Write(question(t, 1, "a.", dnsmessage.TypeA))
	}
	before, err := w.o.Lost()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stuck, ended := make(chan struct{}), make(chan error, 1)
	var got uint64
	go func() {
		ended <- w.o.Follow(ctx, func(flow.Record) {
			if got++; got == 1 {
				<-stuck
			}
		})
	}()
	time.Sleep(4 * time.Second) // longer than the programs would wait for a follower that died
	bpfenv.Eventually(t, "losses", func() bool {
		for range 100 {
			ask()
		}
		lost, err := w.o.Lost()
		if err != nil {
			t.Fatal(err)
		}
		return lost.Ring > before.Ring
	})
	close(stuck)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got == 0 {
		t.Error("the follower got nothing at all")
	}
}
