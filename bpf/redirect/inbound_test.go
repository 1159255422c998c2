package redirect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/redirect/standin"
)

var toPod = Config{Inbound: Inbound{Ports: []PortRange{AllPorts}}}

// apps listen in the pod as apps do: everywhere, on the pod's address alone, on the loopback alone.
func (l *lab) apps() {
	for _, address := range []string{"[::]:8080", pod4 + ":8081", "127.0.0.1:8082", "[::1]:8082"} {
		l.serve(l.pod, address, func(c net.Conn) { fmt.Fprintf(c, "app on %s for %s\n", c.LocalAddr(), host0(c.RemoteAddr())) })
	}
}

// inboundEndpoints listen on the loopback and say which address the client called.
func (l *lab) inboundEndpoints() (all []*net.TCPListener) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		all = append(all, l.serve(l.pod, at(host, 4143), func(c net.Conn) {
			fmt.Fprintf(c, "endpoint on %s for %s\n", c.LocalAddr(), host0(c.RemoteAddr()))
		}))
	}
	return all
}

// call connects from outside and returns the line that is said, or the error.
func (l *lab) call(address string) (line string, err error) {
	l.t.Helper()
	l.within(l.outside, func() error {
		line, err = greeting(address)
		return nil
	})
	return line, err
}

func greeting(address string) (string, error) {
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func (l *lab) hears(address, want string) {
	l.t.Helper()
	if got, err := l.call(address); got != want || err != nil {
		l.t.Errorf("call %s: got %q, %v; want %q", address, got, err, want)
	}
}

func (l *lab) setInbound(id uint64, all ...*net.TCPListener) {
	l.t.Helper()
	if err := l.r.SetInbound(id, all...); err != nil {
		l.t.Fatal(err)
	}
}

func TestCallsReachTheEndpointOnTheAppsPort(t *testing.T) {
	l := newLab(t)
	l.apps()
	l.hears(at(pod4, 8080), "app on "+at(pod4, 8080)+" for "+outside4)
	l.setInbound(l.attach(toPod), l.inboundEndpoints()...)
	for _, port := range []int{8080, 8081, 8082, 9999} {
		l.hears(at(pod4, port), fmt.Sprintf("endpoint on %s for %s", at(pod4, port), outside4))
		l.hears(at(pod6, port), fmt.Sprintf("endpoint on %s for %s", at(pod6, port), outside6))
	}
}

// One listener on [::] is enough for both families, one on [::] for IPv6 alone is not.
func TestDualStackListenerTakesBothFamilies(t *testing.T) {
	l := newLab(t)
	id := l.attach(toPod)
	l.setInbound(id, l.serve(l.pod, "[::]:4143", func(c net.Conn) { fmt.Fprintf(c, "endpoint for %s\n", host0(c.RemoteAddr())) }))
	l.hears(at(pod4, 8080), "endpoint for "+outside4)
	l.hears(at(pod6, 8080), "endpoint for "+outside6)

	only, err := Listen(context.Background(), l.pod, "tcp6", "[::]:4144")
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	l.setInbound(id, only)
	l.hears(at(pod4, 8080), "endpoint for "+outside4)
}

// The endpoint reaches the app, and processes of the pod reach each other, by the pod's addresses and the loopback's.
func TestPodLocalTrafficPasses(t *testing.T) {
	l := newLab(t)
	l.apps()
	l.setInbound(l.attach(toPod), l.inboundEndpoints()...)
	for address, want := range map[string]string{
		at(pod4, 8080):        "app on " + at(pod4, 8080) + " for " + pod4,
		at(pod4, 8081):        "app on " + at(pod4, 8081) + " for " + pod4,
		at(pod6, 8080):        "app on " + at(pod6, 8080) + " for " + pod6,
		at("127.0.0.1", 8080): "app on 127.0.0.1:8080 for 127.0.0.1",
		at("127.0.0.1", 8082): "app on 127.0.0.1:8082 for 127.0.0.1",
		at("::1", 8082):       "app on [::1]:8082 for ::1",
	} {
		l.within(l.pod, func() error {
			if got, err := greeting(address); got != want || err != nil {
				t.Errorf("call %s from the pod: got %q, %v; want %q", address, got, err, want)
			}
			return nil
		})
	}
}

// The stand-in forwards calls to the app at the address that was called, so that what listens on the loopback alone
// stays private.
func TestStandinForwardsCalls(t *testing.T) {
	l := newLab(t)
	l.apps()
	failed := make(chan error, 1)
	f := standin.Forwarder{Original: standin.Called, Dial: l.dialPod, Failed: func(err error) { failed <- err }}
	l.setInbound(l.attach(toPod), l.forward(f, 4143)...)
	l.hears(at(pod4, 8080), "app on "+at(pod4, 8080)+" for "+pod4)
	l.hears(at(pod6, 8080), "app on "+at(pod6, 8080)+" for "+pod6)
	if got, err := l.call(at(pod4, 8082)); err == nil {
		t.Errorf("an app on the loopback answered a call from outside: %q", got)
	}
	if err := <-failed; !strings.Contains(err.Error(), "refused") {
		t.Errorf("the stand-in's error: %v", err)
	}
}

// The stand-in forwards what the pod connects to, in both directions and with half closes, and refuses who dials it.
func TestStandinForwardsConnects(t *testing.T) {
	l := newLab(t)
	for _, host := range both {
		l.serve(l.outside, at(host, 80), func(c net.Conn) {
			all, _ := io.ReadAll(c)
			fmt.Fprintf(c, "%d bytes from %s\n", len(all), host0(c.RemoteAddr()))
		})
	}
	failed := make(chan error, 1)
	f := standin.Forwarder{Original: l.r.OriginalDst, Dial: l.dialPod, Failed: func(err error) { failed <- err }}
	l.forward(f, endpointPort)
	l.attach(toEndpoint)
	g := l.guest()
	for host, pod := range map[string]string{outside4: pod4, outside6: pod6} {
		got := g.do(order{To: at(host, 80), Send: 3 << 20})
		if want := fmt.Sprintf("%d bytes from %s", 3<<20, pod); got.Line != want || got.Peer != at(host, 80) {
			t.Errorf("send to %s: got %+v, want %q", host, got, want)
		}
	}
	if got := g.do(order{To: at("127.0.0.1", endpointPort)}); got.Err == "" {
		t.Errorf("who dials the endpoint itself is answered: %+v", got)
	}
	if err := <-failed; !strings.Contains(err.Error(), ErrNotRedirected.Error()) {
		t.Errorf("the stand-in's error: %v", err)
	}
}

func (l *lab) dialPod(ctx context.Context, to netip.AddrPort) (c net.Conn, err error) {
	err = within(l.pod, func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// forward runs a stand-in on the pod's loopback until the test ends.
func (l *lab) forward(f standin.Forwarder, port int) (all []*net.TCPListener) {
	l.t.Helper()
	for _, host := range []string{"127.0.0.1", "::1"} {
		ln, err := Listen(context.Background(), l.pod, "tcp", at(host, port))
		if err != nil {
			l.t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- f.Serve(ctx, ln) }()
		l.t.Cleanup(func() {
			stop()
			if err := <-served; err != nil {
				l.t.Error(err)
			}
		})
		all = append(all, ln)
	}
	return all
}

func TestDeadInboundEndpoint(t *testing.T) {
	for name, tc := range map[string]struct {
		open    bool
		refused uint64
	}{
		"closed": {false, 3},
		"open":   {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.apps()
			c := toPod
			c.FailOpen = tc.open
			id := l.attach(c)
			app := func(host, peer string) {
				t.Helper()
				got, err := l.call(at(host, 8080))
				if tc.open && (err != nil || got != "app on "+at(host, 8080)+" for "+peer) {
					t.Errorf("got %q, %v; want the app", got, err)
				}
				if !tc.open && (err == nil || !strings.Contains(err.Error(), "refused")) {
					t.Errorf("got %q, %v; want it refused", got, err)
				}
			}
			app(pod4, outside4)
			app(pod6, outside6)
			all := l.inboundEndpoints()
			l.setInbound(id, all...)
			l.hears(at(pod4, 8080), "endpoint on "+at(pod4, 8080)+" for "+outside4)
			for _, ln := range all {
				ln.Close()
			}
			app(pod4, outside4)
			l.setInbound(id, l.inboundEndpoints()...)
			l.hears(at(pod4, 8080), "endpoint on "+at(pod4, 8080)+" for "+outside4)
			if n, err := l.r.Refused(id); n != tc.refused || err != nil {
				t.Errorf("%d refused, %v; want %d", n, err, tc.refused)
			}
		})
	}
}

func TestInboundExceptions(t *testing.T) {
	l := newLab(t)
	l.apps()
	all := l.inboundEndpoints()
	app4, app6 := "app on "+at(pod4, 8080)+" for "+outside4, "app on "+at(pod6, 8080)+" for "+outside6
	end4, end6 := "endpoint on "+at(pod4, 8080)+" for "+outside4, "endpoint on "+at(pod6, 8080)+" for "+outside6
	for name, tc := range map[string]struct {
		in       Inbound
		on4, on6 string
	}{
		"no ports":        {Inbound{}, app4, app6},
		"this port":       {Inbound{Ports: []PortRange{{8080, 8080}}}, end4, end6},
		"other ports":     {Inbound{Ports: []PortRange{{1, 8079}, {8081, 65535}}}, app4, app6},
		"without a port":  {Inbound{Ports: []PortRange{AllPorts}, SkipPorts: []PortRange{{8000, 8999}}}, app4, app6},
		"without IPv4":    {Inbound{Ports: []PortRange{AllPorts}, SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, app4, end6},
		"without a peer":  {Inbound{Ports: []PortRange{AllPorts}, SkipCIDRs: []netip.Prefix{netip.MustParsePrefix(outside6 + "/128")}}, end4, app6},
		"without another": {Inbound{Ports: []PortRange{AllPorts}, SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("10.83.0.4/30")}}, end4, end6},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			id := l.attach(Config{Inbound: tc.in})
			if len(tc.in.Ports) > 0 {
				l.setInbound(id, all...)
			}
			l.hears(at(pod4, 8080), tc.on4)
			l.hears(at(pod6, 8080), tc.on6)
		})
	}
	if left := l.ruleCount(); left != 0 {
		t.Errorf("%d rules left after the last pod", left)
	}
}

// A connection that was there before stays where it is, and one that is redirected survives the end of redirection.
func TestConnectionsSurviveAttachAndDetach(t *testing.T) {
	l := newLab(t)
	echo := func(c net.Conn) { _, _ = io.Copy(c, c) }
	l.serve(l.pod, at(pod4, 8080), echo)
	end := l.serve(l.pod, "127.0.0.1:4143", echo)
	open := func() (c net.Conn) {
		l.within(l.outside, func() (err error) {
			c, err = net.Dial("tcp", at(pod4, 8080))
			return err
		})
		return c
	}
	says := func(c net.Conn) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4)
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
			t.Errorf("got %q, %v", buf, err)
		}
	}
	before := open()
	defer before.Close()
	ids, err := l.r.Attach(context.Background(), Pod{Cgroups: []string{l.cgroup}, Netns: l.pod, Config: toPod})
	if err != nil {
		t.Fatal(err)
	}
	l.setInbound(ids[0], end)
	during := open()
	defer during.Close()
	says(before)
	if err := l.r.Detach(context.Background(), ids...); err != nil {
		t.Fatal(err)
	}
	says(before)
	says(during)
}

func TestSetInboundNamesAListenerThatCannotWork(t *testing.T) {
	l := newLab(t)
	id := l.attach(toPod)
	elsewhere, err := Listen(context.Background(), l.outside, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	if err := l.r.SetInbound(id, elsewhere); err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("a listener of another namespace: %v", err)
	}
	var multipath net.Listener
	l.within(l.pod, func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(true)
		multipath, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		return err
	})
	defer multipath.Close()
	if protocol := socketProtocol(t, multipath.(*net.TCPListener)); protocol != unix.IPPROTO_MPTCP {
		t.Skipf("needs a kernel with Multipath TCP: the listener speaks protocol %d", protocol)
	}
	if err := l.r.SetInbound(id, multipath.(*net.TCPListener)); err == nil || !strings.Contains(err.Error(), "Multipath TCP") {
		t.Errorf("a listener that speaks Multipath TCP: %v", err)
	}
	if err := l.r.SetInbound(id + 1); err == nil {
		t.Error("no error for a pod that is not attached")
	}
}

func TestListenersSpeakPlainTCP(t *testing.T) {
	ln, err := Listen(context.Background(), nil, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := socketProtocol(t, ln); got != unix.IPPROTO_TCP {
		t.Errorf("protocol %d", got)
	}
}

func socketProtocol(t *testing.T, ln *net.TCPListener) (protocol int) {
	t.Helper()
	raw, err := ln.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { protocol, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return protocol
}
