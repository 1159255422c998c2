package redirect

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

var toEndpoint = Config{Outbound: Outbound{Port: endpointPort}}

func TestConnectReachesTheEndpoint(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	g := l.guest()
	for _, host := range both {
		l.direct(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	l.attach(toEndpoint)
	for _, host := range both {
		l.redirected(g.do(order{To: at(host, 80)}), at(host, 80))
		// Nobody listens on that port: it is the endpoint's to find out.
		l.redirected(g.do(order{To: at(host, 81)}), at(host, 81))
	}
	// Nobody has these addresses.
	l.redirected(g.do(order{To: "203.0.113.7:443"}), "203.0.113.7:443")
	l.redirected(g.do(order{To: "[2001:db8::7]:443"}), "[2001:db8::7]:443")
}

// The ways of connecting that are known to go around redirections, or to break in them.
func TestEveryWayOfConnectingReachesTheEndpoint(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	l.attach(toEndpoint)
	g := l.guest()
	for name, o := range map[string]order{
		"bound to a device":           {To: at(outside4, 80), Device: podDevice},
		"bound to a device, IPv6":     {To: at(outside6, 80), Device: podDevice},
		"Multipath TCP":               {To: at(outside4, 80), Protocol: unix.IPPROTO_MPTCP},
		"Multipath TCP, IPv6":         {To: at(outside6, 80), Protocol: unix.IPPROTO_MPTCP},
		"Fast Open":                   {To: at(outside4, 80), FastOpen: true},
		"Fast Open, IPv6":             {To: at(outside6, 80), FastOpen: true},
		"Fast Open, deferred":         {To: at(outside4, 80), Deferred: true},
		"not blocking":                {To: at(outside4, 80), NonBlock: true},
		"not blocking, IPv6":          {To: at(outside6, 80), NonBlock: true},
		"bound to an address":         {To: at(outside4, 80), Bind: pod4 + ":0"},
		"bound to an address, IPv6":   {To: at(outside6, 80), Bind: "[" + pod6 + "]:0"},
		"bound to address and device": {To: at(outside4, 80), Bind: pod4 + ":0", Device: podDevice},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			got := g.do(o)
			l.redirected(got, o.To)
			if got.Device != "" {
				t.Errorf("the socket is still bound to %s, where the endpoint is not", got.Device)
			}
			if bound := strings.TrimSuffix(o.Bind, ":0"); !strings.HasPrefix(got.Local, bound) {
				t.Errorf("bound to %s, but local address %s", o.Bind, got.Local)
			}
		})
	}
}

// An IPv6 socket that speaks IPv4: the endpoint learns the IPv4 address, the guest sees what it asked for.
func TestMappedAddresses(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	g := l.guest()
	for name, o := range map[string]order{
		"plain":         {To: at(outside4, 80), Mapped: true},
		"bound":         {To: at(outside4, 80), Mapped: true, Bind: pod4 + ":0"},
		"Multipath TCP": {To: at(outside4, 80), Mapped: true, Protocol: unix.IPPROTO_MPTCP},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			before := g.do(o)
			if before.Line != "direct from "+pod4 {
				t.Errorf("not redirected: got %+v", before)
			}
			id := l.attach(toEndpoint)
			if got := g.do(o); got.Line != "endpoint for "+o.To || got.Peer != before.Peer {
				t.Errorf("got %+v, want the endpoint, and the peer %s", got, before.Peer)
			}
			if got := g.do(order{To: "127.0.0.1:9", Mapped: true}); got.Errno != unix.ECONNREFUSED {
				t.Errorf("mapped loopback: got %+v, want nobody there", got)
			}
			if n, err := l.r.Refused(id); err != nil || n != 0 {
				t.Errorf("%d refused, %v; want none by us", n, err)
			}
		})
	}
}

func TestLoopbackIsLeftAlone(t *testing.T) {
	l := newLab(t)
	for _, host := range []string{"127.0.0.1", "127.8.9.10", "::1"} {
		l.serve(l.pod, at(host, 8080), func(c net.Conn) { fmt.Fprintf(c, "app on %s\n", c.LocalAddr()) })
	}
	l.attach(toEndpoint) // and no endpoint: a redirected connect would be refused
	g := l.guest()
	for to, app := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "127.8.9.10:8080": "127.8.9.10:8080", "[::1]:8080": "[::1]:8080",
		// Linux connects to itself when asked for the unspecified address.
		"0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "[::1]:8080",
	} {
		if got := g.do(order{To: to}); got.Line != "app on "+app {
			t.Errorf("connect to %s: got %+v", to, got)
		}
	}
}

func TestUDPIsLeftAlone(t *testing.T) {
	l := newLab(t)
	for _, host := range both {
		var server net.PacketConn
		l.within(l.outside, func() (err error) {
			server, err = net.ListenPacket("udp", at(host, 53))
			return err
		})
		served := make(chan struct{})
		go func() {
			defer close(served)
			buf := make([]byte, 64)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = server.WriteTo(append([]byte("pong to "), buf[:n]...), from)
			}
		}()
		t.Cleanup(func() {
			server.Close()
			<-served
		})
	}
	l.attach(toEndpoint)
	g := l.guest()
	for _, host := range both {
		if got := g.do(order{To: at(host, 53), UDP: true}); got.Line != "pong to ping" || got.Peer != at(host, 53) {
			t.Errorf("datagram to %s: got %+v", host, got)
		}
	}
}

func TestDeadEndpointRefuses(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	id := l.attach(toEndpoint)
	g := l.guest()
	for _, host := range both {
		l.refused(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	if n, err := l.r.Refused(id); n != 2 || err != nil {
		t.Errorf("%d refused, %v; want 2", n, err)
	}
	all := l.endpoints()
	for _, host := range both {
		l.redirected(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	for _, ln := range all {
		ln.Close()
	}
	l.refused(g.do(order{To: at(outside4, 80), NonBlock: true}), at(outside4, 80))
	if n, err := l.r.Refused(id); n != 3 || err != nil {
		t.Errorf("%d refused, %v; want 3", n, err)
	}
}

func TestDeadEndpointLetsThroughIfConfigured(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	id := l.attach(Config{Outbound: Outbound{Port: endpointPort}, FailOpen: true})
	g := l.guest()
	for _, host := range both {
		l.direct(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	l.endpoints()
	for _, host := range both {
		l.redirected(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	if n, err := l.r.Refused(id); n != 0 || err != nil {
		t.Errorf("%d refused, %v; want none", n, err)
	}
}

func TestExceptions(t *testing.T) {
	l := newLab(t)
	for port := 80; port < 84; port++ {
		l.hosts(port)
	}
	l.endpoints()
	g := l.guest()
	below := bpfenv.CgroupBelow(t, l.cgroup)
	deeper := bpfenv.CgroupBelow(t, below)
	for _, tc := range []struct {
		name             string
		out              Outbound
		from             *guest
		direct, redirect []order
	}{
		{
			"ports", Outbound{SkipPorts: []PortRange{{81, 82}}}, g,
			[]order{{To: at(outside4, 81)}, {To: at(outside6, 82)}, {To: at(outside4, 82), Mapped: true}},
			[]order{{To: at(outside4, 80)}, {To: at(outside6, 83)}},
		},
		{
			"an IPv4 prefix", Outbound{SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("10.83.0.0/30")}}, g,
			[]order{{To: at(outside4, 80)}, {To: at(outside4, 80), Mapped: true}},
			[]order{{To: at(outside6, 80)}, {To: "10.83.0.4:80"}},
		},
		{
			"an IPv6 prefix", Outbound{SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("fd83::2/127")}}, g,
			[]order{{To: at(outside6, 80)}},
			[]order{{To: at(outside4, 80)}, {To: "[fd83::4]:80"}},
		},
		{
			"a mark", Outbound{SkipMark: 1337}, g,
			[]order{{To: at(outside4, 80), Mark: 1337}, {To: at(outside6, 80), Mark: 1337}},
			[]order{{To: at(outside4, 80)}, {To: at(outside6, 80), Mark: 1338}},
		},
		{
			"a cgroup below", Outbound{SkipCgroups: []string{below}}, startGuest(t, below, l.pod),
			[]order{{To: at(outside4, 80)}, {To: at(outside6, 80)}, {To: at(outside4, 80), Mapped: true}}, nil,
		},
		{
			"a cgroup below that", Outbound{SkipCgroups: []string{below}}, startGuest(t, deeper, l.pod),
			[]order{{To: at(outside4, 80)}}, nil,
		},
		{
			"another cgroup", Outbound{SkipCgroups: []string{below}}, g,
			nil, []order{{To: at(outside4, 80)}},
		},
		{
			"no cgroup", Outbound{}, startGuest(t, deeper, l.pod),
			nil, []order{{To: at(outside4, 80)}, {To: at(outside6, 80)}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := l.in(t)
			tc.out.Port = endpointPort
			l.attach(Config{Outbound: tc.out})
			for _, o := range tc.direct {
				if got := tc.from.do(o); !strings.HasPrefix(got.Line, "direct from ") {
					t.Errorf("%+v: got %+v, want the server itself", o, got)
				}
			}
			for _, o := range tc.redirect {
				l.redirected(tc.from.do(o), o.To)
			}
		})
	}
	if left := l.ruleCount(); left != 0 {
		t.Errorf("%d rules left after the last pod", left)
	}
}

func (l *lab) ruleCount() (n int) {
	l.t.Helper()
	var key outboundRule
	var value uint32
	all := l.r.rules.Iterate()
	for all.Next(&key, &value) {
		n++
	}
	if err := all.Err(); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// Settings can change under a running pod, and the rules of what was before go.
func TestAttachAgainChangesSettings(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.hosts(81)
	l.endpoints()
	l.attach(Config{Outbound: Outbound{Port: endpointPort, SkipPorts: []PortRange{{80, 80}, {90, 95}}}})
	g := l.guest()
	l.direct(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	l.redirected(g.do(order{To: at(outside4, 81)}), at(outside4, 81))

	again := Pod{Cgroups: []string{l.cgroup}, Config: Config{Outbound: Outbound{Port: endpointPort, SkipPorts: []PortRange{{81, 81}}}}}
	if _, err := l.r.Attach(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	l.redirected(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	l.direct(g.do(order{To: at(outside4, 81)}), at(outside4, 81))
	if n := l.ruleCount(); n != 1 {
		t.Errorf("%d rules, want the new one", n)
	}
}

// A socket may be dissolved and connected again; what it was told first must not stick to it.
func TestSocketIsUsedAgain(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	l.serve(l.pod, "127.0.0.1:8080", func(c net.Conn) { fmt.Fprintln(c, "app") })
	l.attach(toEndpoint)
	g := l.guest()
	if got := g.do(order{To: at(outside4, 80), Again: "127.0.0.1:8080"}); got.Line != "app" || got.Peer != "127.0.0.1:8080" {
		t.Errorf("redirected, then loopback: got %+v", got)
	}
	l.redirected(g.do(order{To: at(outside4, 80), Again: at(outside4, 81)}), at(outside4, 81))
	l.redirected(g.do(order{To: "127.0.0.1:8080", Again: at(outside4, 80)}), at(outside4, 80))
}

// The programs belong to the socket's cgroup, whoever calls connect: a socket that was handed to somebody else is still
// the pod's, and one that somebody else made is not.
func TestSocketOfThePodInOtherHands(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	l.attach(toEndpoint)
	g := l.guest()
	fd := g.socket(order{})
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(outside4).As4(), Port: 80}); err != nil {
		t.Fatal(err)
	}
	got, err := look(fd)
	if err != nil {
		t.Fatal(err)
	}
	l.redirected(got, at(outside4, 80))
	l.within(l.pod, func() error {
		mine, err := connect(order{To: at(outside4, 80)})
		l.direct(mine, at(outside4, 80))
		return err
	})
}

func TestAttachSaysWhatIsWrong(t *testing.T) {
	l := newLab(t)
	file := l.cgroup + "/cgroup.procs"
	inbound := Config{Inbound: Inbound{Ports: []PortRange{AllPorts}}}
	for name, tc := range map[string]struct {
		p    Pod
		want string
	}{
		"no cgroup":        {Pod{}, "no cgroup"},
		"missing cgroup":   {Pod{Cgroups: []string{l.cgroup + "/none"}}, "no such file or directory"},
		"not a cgroup":     {Pod{Cgroups: []string{os.TempDir()}}, "not a cgroup2 directory"},
		"not a directory":  {Pod{Cgroups: []string{file}}, "attach"},
		"not a namespace":  {Pod{Cgroups: []string{l.cgroup}, Netns: openFile(t, file), Config: inbound}, "network namespace"},
		"bad settings":     {Pod{Cgroups: []string{l.cgroup}, Config: Config{Inbound: Inbound{Ports: []PortRange{{2, 1}}}}}, "ends before it begins"},
		"missing skip":     {Pod{Cgroups: []string{l.cgroup}, Config: Config{Outbound: Outbound{Port: 1, SkipCgroups: []string{l.cgroup + "/none"}}}}, "no such file or directory"},
		"second is a file": {Pod{Cgroups: []string{l.cgroup, file}, Config: toEndpoint}, "attach"},
	} {
		if _, err := l.r.Attach(context.Background(), tc.p); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if ids, err := l.r.pins.Pods(); err != nil || len(ids) != 0 {
		t.Errorf("left after failures: %v, %v", ids, err)
	}
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
