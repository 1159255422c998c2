package observe_test

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

// world is two observed pods in namespaces of their own, joined by a wire.
type world struct {
	o              *observe.Observer
	client, server *bpfenv.Pod
	wire           bpfenv.Wire
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{o: open(t)}
	a, b := bpfenv.NewNetns(t), bpfenv.NewNetns(t)
	w.wire = bpfenv.Veth(t, a, b)
	w.client, w.server = bpfenv.NewPod(t, a), bpfenv.NewPod(t, b)
	attach(t, w.o, w.client)
	attach(t, w.o, w.server)
	return w
}

// newHouse is a world of one namespace, whose pods talk over its loopback.
func newHouse(t testing.TB, ns *bpfenv.Netns) *world {
	t.Helper()
	w := &world{o: open(t), client: bpfenv.NewPod(t, ns), server: bpfenv.NewPod(t, ns)}
	attach(t, w.o, w.client)
	attach(t, w.o, w.server)
	return w
}

func (w *world) read(t testing.TB, p *bpfenv.Pod) account.Counters {
	t.Helper()
	c, err := w.o.Read(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The kernel counts a namespace's octets and segments; nothing but the pods' connection is in these two.
func TestTCPMatchesTheKernel(t *testing.T) {
	for _, size := range []struct {
		name     string
		up, down int
		lossy    bool
	}{
		{"nothing", 0, 0, false},
		{"a little", 100, 1000, false},
		{"in segments", 3 << 20, 5 << 20, false},
		{"with losses", 1 << 20, 0, true},
	} {
		t.Run(size.name, func(t *testing.T) {
			w := newWorld(t)
			l := w.server.Listen(t, bpfenv.Free(w.wire.B4))
			before, beforeServer := w.client.Netns.Figures(t), w.server.Netns.Figures(t)
			c, s := bpfenv.Pair(t, w.client, l)
			if size.lossy {
				stop := bpfenv.Drop(t, w.server.Cgroup, 10)
				bpfenv.Exchange(t, c, s, size.up, size.down)
				stop()
				info := bpfenv.TCPInfo(t, c)
				if got := w.read(t, w.client).Retransmits; got != uint64(info.Total_retrans) || got == 0 {
					t.Errorf("open connection: %d retransmits, the socket says %d; want the same and some", got, info.Total_retrans)
				}
			} else {
				bpfenv.Exchange(t, c, s, size.up, size.down)
			}
			bpfenv.CloseInOrder(t, c, s)

			check := func(p, peer *bpfenv.Pod, before bpfenv.Figures) {
				t.Helper()
				k, got := p.Netns.Figures(t).Sub(before), w.read(t, p)
				want := account.Traffic{
					RxBytes: k["IpExtInOctets"], TxBytes: k["IpExtOutOctets"],
					TxPackets: k["TcpOutSegs"] + k["TcpRetransSegs"],
					// The kernel counts what it receives by the piece, not by the segment.
					RxPackets: w.read(t, peer).TxPackets,
				}
				if d := cmp.Diff(want, got.By[account.V4][account.TCP]); d != "" {
					t.Errorf("the kernel's figures (-) against ours (+):\n%s", d)
				}
				if got.Traffic != got.By[account.V4][account.TCP] {
					t.Errorf("sum %+v, but all of it is %+v", got.Traffic, got.By[account.V4][account.TCP])
				}
				if got.Retransmits != k["TcpRetransSegs"] || got.Opened != k["TcpActiveOpens"] || got.Accepted != k["TcpPassiveOpens"] || got.Open != 0 {
					t.Errorf("retransmits %d, opened %d, accepted %d, open %d; the kernel: %d, %d, %d, 0", got.Retransmits, got.Opened, got.Accepted, got.Open,
						k["TcpRetransSegs"], k["TcpActiveOpens"], k["TcpPassiveOpens"])
				}
			}
			check(w.client, w.server, before)
			check(w.server, w.client, beforeServer)
		})
	}
}

// Many connections at once, in both directions, on every CPU: programs interrupt each other.
func TestManyConnectionsMatchTheKernel(t *testing.T) {
	w := newHouse(t, bpfenv.NewNetns(t))
	before := w.client.Netns.Figures(t)
	l := w.server.Listen(t, bpfenv.Free(loopback4))
	const connections = 8
	var all errgroup.Group
	ends := map[*net.TCPConn]*net.TCPConn{}
	for range connections {
		c, s := bpfenv.Pair(t, w.client, l)
		ends[c] = s
		all.Go(func() error {
			for range rounds(300) {
				if err := bpfenv.Swap(c, s, 100, 3000); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	for c, s := range ends {
		bpfenv.CloseInOrder(t, c, s)
	}
	k := w.client.Netns.Figures(t).Sub(before)
	sum := w.read(t, w.client).Add(w.read(t, w.server))
	if sum.TxBytes != k["IpExtOutOctets"] || sum.RxBytes != k["IpExtInOctets"] || sum.TxPackets != k["TcpOutSegs"]+k["TcpRetransSegs"] || sum.RxPackets != sum.TxPackets {
		t.Errorf("%+v; the kernel: %d bytes out, %d in, %d segments", sum.Traffic, k["IpExtOutOctets"], k["IpExtInOctets"], k["TcpOutSegs"]+k["TcpRetransSegs"])
	}
	if sum.Opened != connections || sum.Accepted != connections || sum.Open != 0 {
		t.Errorf("opened %d, accepted %d, open %d", sum.Opened, sum.Accepted, sum.Open)
	}
}

// A socket of IPv6 that talks to IPv4.
func TestMappedAddresses(t *testing.T) {
	w := newHouse(t, bpfenv.NewNetns(t))
	l := w.server.Listen(t, bpfenv.Free(netip.IPv6Unspecified()))
	conn, err := w.client.Dial("tcp", netip.AddrPortFrom(loopback4, uint16(l.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	bpfenv.Exchange(t, conn, s, 100, 100)
	bpfenv.CloseInOrder(t, conn.(*net.TCPConn), s)
	if got := w.read(t, w.server); got.Traffic != got.By[account.V4][account.TCP] || got.RxBytes < 100 {
		t.Errorf("%+v of %+v", got.By[account.V4][account.TCP], got.Traffic)
	}
	if r := w.one(t, w.server); r.Local.Addr() != loopback4 || r.Peer.Addr() != loopback4 || r.RxBytes != 100 {
		t.Errorf("%+v", r)
	}
}

// On its loopback a namespace has no neighbour discovery, which would be in the kernel's octets.
func TestIPv6MatchesTheKernel(t *testing.T) {
	w := newHouse(t, bpfenv.NewNetns(t))
	before := w.client.Netns.Figures(t)
	c, s := bpfenv.Pair(t, w.client, w.server.Listen(t, bpfenv.Free(loopback6)))
	bpfenv.Exchange(t, c, s, 2<<20, 3<<20)
	bpfenv.CloseInOrder(t, c, s)
	sendDatagrams(t, w, loopback6, 1, 500, 9000)

	k := w.client.Netns.Figures(t).Sub(before)
	sum := w.read(t, w.client).Add(w.read(t, w.server))
	// Linux 6.1 runs no egress program for the SYN-ACK of IPv6; 6.18 does.
	synAck := account.Traffic{TxBytes: k["Ip6OutOctets"] - sum.TxBytes, TxPackets: k["TcpOutSegs"] + k["TcpRetransSegs"] - sum.By[account.V6][account.TCP].TxPackets}
	if synAck != (account.Traffic{}) && (synAck != account.Traffic{TxBytes: 80, TxPackets: 1} || !bpfenv.KernelBefore(t, 6, 18)) {
		t.Errorf("the kernel counts more out: %+v", synAck)
	}
	if sum.RxBytes != k["Ip6InOctets"] {
		t.Errorf("%d bytes in; the kernel: %d", sum.RxBytes, k["Ip6InOctets"])
	}
	want := account.Traffic{RxBytes: 9501 + 3*48, TxBytes: 9501 + 3*48, RxPackets: 3, TxPackets: 3}
	if got := sum.By[account.V6][account.UDP]; got != want {
		t.Errorf("UDP %+v, want %+v", got, want)
	}
	if v4 := sum.By[account.V4]; v4 != [3]account.Traffic{} {
		t.Errorf("IPv4 %+v, but there was none", v4)
	}
}

// sendDatagrams sends from the client to the server and waits for each.
func sendDatagrams(t testing.TB, w *world, to netip.Addr, sizes ...int) {
	t.Helper()
	server := w.server.PacketConn(t, bpfenv.Free(to))
	client, err := w.client.Dial("udp", server.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	buf := make([]byte, 1<<16)
	for _, size := range sizes {
		if _, err := client.Write(buf[:size]); err != nil {
			t.Fatal(err)
		}
		if n, _, err := server.ReadFrom(buf); err != nil || n != size {
			t.Fatalf("sent %d bytes, received %d: %v", size, n, err)
		}
	}
}

func TestUDPMatchesTheKernel(t *testing.T) {
	w := newWorld(t)
	before, beforeServer := w.client.Netns.Figures(t), w.server.Netns.Figures(t)
	sendDatagrams(t, w, w.wire.B4, 1, 100, 1400)
	// A datagram is one packet, however many fragments the wire needs: ours is counted before and after them.
	sendDatagrams(t, w, w.wire.B4, 20000)
	k, kServer := w.client.Netns.Figures(t).Sub(before), w.server.Netns.Figures(t).Sub(beforeServer)
	if kServer["IpReasmOKs"] != 1 || kServer["IpReasmReqds"] < 2 {
		t.Fatalf("the large datagram was not fragmented: %d parts", kServer["IpReasmReqds"])
	}
	const bytes = 1 + 100 + 1400 + 20000 + 4*28
	client, server := w.read(t, w.client), w.read(t, w.server)
	if want := (account.Traffic{TxBytes: bytes, TxPackets: 4}); client.By[account.V4][account.UDP] != want || client.Traffic != want {
		t.Errorf("sender: %+v, want %+v", client.By[account.V4][account.UDP], want)
	}
	if want := (account.Traffic{RxBytes: bytes, RxPackets: 4}); server.By[account.V4][account.UDP] != want || server.Traffic != want {
		t.Errorf("receiver: %+v, want %+v", server.By[account.V4][account.UDP], want)
	}
	// Linux 6.1 counts the whole, 6.18 its fragments.
	headers := 20 * (k["IpFragCreates"] - 1)
	if bpfenv.KernelBefore(t, 6, 18) && k["IpExtOutOctets"] == client.TxBytes {
		headers = 0
	}
	if client.TxBytes+headers != k["IpExtOutOctets"] || client.TxPackets != k["UdpOutDatagrams"] {
		t.Errorf("sender: %d bytes and %d of fragments' headers, %d packets; the kernel: %d, %d", client.TxBytes, headers, client.TxPackets,
			k["IpExtOutOctets"], k["UdpOutDatagrams"])
	}
	headers = 20 * (kServer["IpReasmReqds"] - 1)
	if server.RxBytes+headers != kServer["IpExtInOctets"] || server.RxPackets != kServer["UdpInDatagrams"] {
		t.Errorf("receiver: %d bytes and %d of fragments' headers, %d packets; the kernel: %d, %d", server.RxBytes, headers, server.RxPackets,
			kServer["IpExtInOctets"], kServer["UdpInDatagrams"])
	}
	sendDatagrams(t, w, w.wire.B6, 100, 20000)
	want := account.Traffic{RxBytes: 20100 + 2*48, RxPackets: 2}
	if got := w.read(t, w.server).By[account.V6][account.UDP]; got != want {
		t.Errorf("IPv6 receiver: %+v, want %+v", got, want)
	}
}

// One send of many datagrams that the kernel, or the device, cuts.
func TestSegmentsOfUDP(t *testing.T) {
	w := newWorld(t)
	server := w.server.PacketConn(t, bpfenv.Free(w.wire.B4))
	conn, err := w.client.Dial("udp", server.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000) })
	if cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if _, err := conn.Write(make([]byte, 9500)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for i := range 10 {
		if _, _, err := server.ReadFrom(buf); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	if got := w.read(t, w.client).TxPackets; got != 10 {
		t.Errorf("sender: %d packets, want 10", got)
	}
	if got := w.read(t, w.server).RxPackets; got != 10 {
		t.Errorf("receiver: %d packets, want 10", got)
	}
}

func TestOtherProtocols(t *testing.T) {
	w := newHouse(t, bpfenv.NewNetns(t))
	fd, err := w.client.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	echo := make([]byte, 64)
	echo[0], echo[2], echo[3] = 8, 0xff^8, 0xff // a request and its checksum
	if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	// A raw socket sees the request and the reply. The kernel's own reply has no socket of the pod's.
	want := account.Traffic{TxBytes: 84, TxPackets: 1, RxBytes: 168, RxPackets: 2}
	bpfenv.Eventually(t, "the reply", func() bool { return w.read(t, w.client).RxPackets == 2 })
	if got := w.read(t, w.client); got.By[account.V4][account.Other] != want || got.Traffic != want {
		t.Errorf("%+v, want %+v", got.By[account.V4][account.Other], want)
	}
}

func TestConnectionCounts(t *testing.T) {
	w := newWorld(t)
	l := w.server.Listen(t, bpfenv.Free(w.wire.B4))
	nobody := netip.AddrPortFrom(w.wire.B4, 1)
	before := w.client.Netns.Figures(t)

	var open []net.Conn
	for range 3 {
		c, s := bpfenv.Pair(t, w.client, l)
		open = append(open, c, s)
	}
	for range 2 {
		if c, err := w.client.Dial("tcp", nobody); err == nil {
			t.Fatalf("connected to a closed port: %v", c.RemoteAddr())
		}
	}
	// A connect that is given up before an answer.
	stop := bpfenv.Drop(t, w.server.Cgroup, 1)
	fd, err := w.client.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: w.wire.B4.As4()}); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	unix.Close(fd)
	stop()

	type counts struct{ Opened, Accepted, Failed, Refused, Open uint64 }
	of := func(c account.Counters) counts { return counts{c.Opened, c.Accepted, c.Failed, c.Refused, c.Open} }
	if got, want := of(w.read(t, w.client)), (counts{Opened: 3, Failed: 3, Open: 3}); got != want {
		t.Errorf("client: %+v, want %+v", got, want)
	}
	if got, want := of(w.read(t, w.server)), (counts{Accepted: 3, Open: 3}); got != want {
		t.Errorf("server: %+v, want %+v", got, want)
	}
	// What the caller gives up is no failure to the kernel.
	if k := w.client.Netns.Figures(t).Sub(before); k["TcpActiveOpens"] != 3+3 || k["TcpAttemptFails"] != 2 || k["TcpCurrEstab"] != 3 {
		t.Errorf("the kernel: %d attempts, %d failed, %d open", k["TcpActiveOpens"], k["TcpAttemptFails"], k["TcpCurrEstab"])
	}
	// A reset, and one end after the other.
	if err := open[0].(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	for _, c := range open {
		c.Close()
	}
	bpfenv.Eventually(t, "all to end", func() bool { return w.read(t, w.client).Open == 0 && w.read(t, w.server).Open == 0 })
	if got, want := of(w.read(t, w.client)), (counts{Opened: 3, Failed: 3}); got != want {
		t.Errorf("client, in the end: %+v, want %+v", got, want)
	}
}

func TestLostSYNIsARetransmit(t *testing.T) {
	w := newWorld(t)
	l := w.server.Listen(t, bpfenv.Free(w.wire.B4))
	stop := bpfenv.Drop(t, w.server.Cgroup, 1)
	done := make(chan error, 1)
	go func() {
		c, err := w.client.Dial("tcp", l.Addr().(*net.TCPAddr).AddrPort())
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	bpfenv.Eventually(t, "a SYN to be sent again", func() bool { return w.read(t, w.client).Retransmits > 0 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := w.read(t, w.client); got.Opened != 1 || got.Failed != 0 {
		t.Errorf("opened %d, failed %d, want 1, 0", got.Opened, got.Failed)
	}
}

func TestRoundTripTimes(t *testing.T) {
	w := newWorld(t)
	c, s := bpfenv.Pair(t, w.client, w.server.Listen(t, bpfenv.Free(w.wire.B4)))
	for _, end := range []struct {
		pod  *bpfenv.Pod
		conn *net.TCPConn
	}{{w.client, c}, {w.server, s}} {
		// Nothing was sent yet: the sample of the handshake is still the socket's own figure.
		us, rtt := uint64(bpfenv.TCPInfo(t, end.conn).Rtt), w.read(t, end.pod).RTT
		low, ok := rtt.Quantile(0)
		high, _ := rtt.Quantile(1)
		if !ok || rtt.Count() != 1 || float64(us) < low || float64(us) >= high {
			t.Errorf("%d samples in [%v, %v) us, want one that holds %d", rtt.Count(), low, high, us)
		}
	}
	buf := make([]byte, 1)
	for range 200 {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	long := w.read(t, w.client).RTT.Count()
	if long < 2 {
		t.Errorf("%d samples after 200 segments of an open connection, want more than that of the handshake", long)
	}
	bpfenv.CloseInOrder(t, c, s)
	if n := w.read(t, w.client).RTT.Count(); n <= long {
		t.Errorf("%d samples at the end, %d before it", n, long)
	}
}

// In the machine's own namespace there are other sockets; a pod's counters have only its own.
func TestHostNetwork(t *testing.T) {
	w := newHouse(t, nil)
	l := w.server.Listen(t, bpfenv.Free(loopback4))
	stranger := bpfenv.NewPod(t, nil)
	cs, ss := bpfenv.Pair(t, stranger, l)
	atServer := w.read(t, w.server)
	c, s := bpfenv.Pair(t, w.client, l)
	bpfenv.Exchange(t, c, s, 1000, 100000)
	bpfenv.CloseInOrder(t, c, s)
	client, server := w.read(t, w.client), w.read(t, w.server).Sub(atServer)
	if client.TxBytes != server.RxBytes || client.RxBytes != server.TxBytes || client.TxBytes < 1000 || client.RxBytes < 100000 {
		t.Errorf("client %+v, server %+v", client.Traffic, server.Traffic)
	}
	bpfenv.Exchange(t, cs, ss, 5000, 5000)
	if again := w.read(t, w.client); again != client {
		t.Errorf("a stranger's traffic changed %+v to %+v", client.Traffic, again.Traffic)
	}
}

// A container may divide its cgroup; the pod is charged all the same.
func TestSocketsBelowTheCgroup(t *testing.T) {
	o, ns := open(t), bpfenv.NewNetns(t)
	parent := bpfenv.Cgroup(t)
	child := bpfenv.NewPodIn(t, bpfenv.CgroupBelow(t, parent), ns)
	id, err := o.Attach(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := o.Detach(id); err != nil {
			t.Error(err)
		}
	}()
	l := child.Listen(t, bpfenv.Free(loopback4))
	c, s := bpfenv.Pair(t, child, l)
	bpfenv.Exchange(t, c, s, 1000, 1000)
	got, err := o.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	if got.Opened != 1 || got.Accepted != 1 || got.Open != 2 || got.TxBytes < 2000 || got.TxBytes != got.RxBytes {
		t.Errorf("opened %d, accepted %d, open %d, %+v", got.Opened, got.Accepted, got.Open, got.Traffic)
	}
}

// Redirection counts what it refuses in a map of its own, which accounting reads and tidies.
func TestRefusals(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	o := openAt(t, root)
	cgroup := bpfenv.Cgroup(t)
	id, err := o.Attach(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := o.Read(id); err != nil || c.Refused != 0 {
		t.Fatalf("without redirection: %d, %v", c.Refused, err)
	}
	refused, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if err := refused.Pin(filepath.Join(root, pin.Version, "map", "hachi_refused")); err != nil {
		t.Fatal(err)
	}
	for key, n := range map[uint64]uint64{id: 7, id + 1: 9} {
		if err := refused.Put(key, n); err != nil {
			t.Fatal(err)
		}
	}
	last, err := o.Detach(id)
	if err != nil || last.Refused != 7 {
		t.Errorf("refused %d, %v; want 7", last.Refused, err)
	}
	var n uint64
	if err := refused.Lookup(id, &n); err == nil {
		t.Errorf("a detached cgroup still has a row: %d", n)
	}
	if err := refused.Lookup(id+1, &n); err != nil || n != 9 {
		t.Errorf("another's row: %d, %v", n, err)
	}
}

func TestReadWhatIsNotAttached(t *testing.T) {
	o := open(t)
	cgroup := bpfenv.Cgroup(t)
	id := bpfenv.ID(t, cgroup)
	if _, err := o.Read(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if _, err := o.Detach(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("detach: %v", err)
	}
	if _, err := o.Attach(t.TempDir()); err == nil {
		t.Error("attached to a directory that is no cgroup")
	}
	if _, err := o.Attach(filepath.Join(cgroup, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("attach to nothing: %v", err)
	}
}
