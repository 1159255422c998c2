package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// listenerOf returns a listener that belongs to a cgroup, as do the sockets that it accepts.
func (l *lab) listenerOf(cgroup string, on order) *net.TCPListener {
	l.t.Helper()
	f := os.NewFile(uintptr(startGuest(l.t, cgroup, l.pod).socket(on)), on.To)
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// dialled connects the guest while nobody accepts, and accepts then.
func (l *lab) dialled(g *guest, ln *net.TCPListener, o order) net.Conn {
	l.t.Helper()
	g.begin(o)
	c, err := ln.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

// hangUp answers the guest, so that its order ends.
func (l *lab) hangUp(g *guest, c net.Conn) answer {
	l.t.Helper()
	if _, err := c.Write([]byte("bye\n")); err != nil {
		l.t.Fatal(err)
	}
	return g.end()
}

func (l *lab) inFlight() (n int) {
	l.t.Helper()
	var (
		key   outboundTuple
		value outboundOrigin
	)
	all := l.r.flight.Iterate()
	for all.Next(&key, &value) {
		n++
	}
	if err := all.Err(); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// The accepted socket knows where its client wanted to go, through its storage where the endpoint's cgroup has the
// program, else through the table that the client's side writes. Asking again gives the same answer only for the first.
func TestOriginalDst(t *testing.T) {
	for name, attach := range map[string]bool{"by storage": true, "by table": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			end := bpfenv.Cgroup(t)
			if attach {
				l.attachEndpoint(end, false)
			}
			l.attach(toEndpoint)
			g := l.guest()
			for on, all := range map[string][]string{
				at("127.0.0.1", endpointPort): {"203.0.113.9:443", "10.83.0.2:1"},
				at("::1", endpointPort):       {"[2001:db8::9]:65535"},
			} {
				ln := l.listenerOf(end, order{To: on})
				for _, to := range all {
					c := l.dialled(g, ln, order{To: to})
					if n := l.inFlight(); attach && n != 0 {
						t.Errorf("%d rows in the table after the handshake", n)
					}
					got, err := l.r.OriginalDst(c)
					if err != nil || got.String() != to {
						t.Errorf("got %s, %v; want %s", got, err, to)
					}
					got, err = l.r.OriginalDst(c)
					if attach && (err != nil || got.String() != to) {
						t.Errorf("asked again: got %s, %v", got, err)
					}
					if !attach && !errors.Is(err, ErrNotRedirected) {
						t.Errorf("asked again: got %s, %v; the row should be gone", got, err)
					}
					l.hangUp(g, c)
				}
				c := l.dialled(g, ln, order{To: on})
				if got, err := l.r.OriginalDst(c); !errors.Is(err, ErrNotRedirected) {
					t.Errorf("dialled by itself: got %s, %v", got, err)
				}
				l.hangUp(g, c)
			}
			if n := l.inFlight(); n != 0 {
				t.Errorf("%d rows left in the table", n)
			}
		})
	}
}

func (l *lab) attachEndpoint(cgroup string, sockopt bool) {
	l.t.Helper()
	id, err := l.r.AttachEndpoint(context.Background(), cgroup, sockopt)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := l.r.DetachEndpoint(context.Background(), id); err != nil {
			l.t.Error(err)
		}
	})
}

// A dual-stack listener takes both families, IPv4 from mapped addresses.
func TestOriginalDstOfADualStackListener(t *testing.T) {
	l := newLab(t)
	end := bpfenv.Cgroup(t)
	l.attachEndpoint(end, false)
	l.attach(toEndpoint)
	g := l.guest()
	ln := l.listenerOf(end, order{To: at("::", endpointPort)})
	for _, to := range []string{"203.0.113.9:443", "[2001:db8::9]:443"} {
		c := l.dialled(g, ln, order{To: to})
		if got, err := l.r.OriginalDst(c); err != nil || got.String() != to {
			t.Errorf("got %s, %v; want %s", got, err, to)
		}
		l.hangUp(g, c)
	}
}

// A listener as Go makes them speaks Multipath TCP. No socket map takes it, but outbound connections, which are dialled,
// reach it and are known, be the client's socket of that kind too or not.
func TestOriginalDstOfAMultipathListener(t *testing.T) {
	for name, attach := range map[string]bool{"by storage": true, "by table": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			end := bpfenv.Cgroup(t)
			if attach {
				l.attachEndpoint(end, false)
			}
			ln := l.listenerOf(end, order{To: at("127.0.0.1", endpointPort), Protocol: unix.IPPROTO_MPTCP})
			l.attach(toEndpoint)
			g := l.guest()
			for _, o := range []order{{To: "203.0.113.9:443"}, {To: "203.0.113.9:444", Protocol: unix.IPPROTO_MPTCP}} {
				c := l.dialled(g, ln, o)
				if got, err := l.r.OriginalDst(c); err != nil || got.String() != o.To {
					t.Errorf("socket of protocol %d: got %s, %v; want %s", o.Protocol, got, err, o.To)
				}
				if got := l.hangUp(g, c); got.Peer != o.To {
					t.Errorf("socket of protocol %d: the client sees %+v", o.Protocol, got)
				}
			}
		})
	}
}

// What an endpoint that was written for iptables asks is answered in the form of iptables.
func TestSocketOptionOriginalDst(t *testing.T) {
	l := newLab(t)
	end := bpfenv.Cgroup(t)
	l.attachEndpoint(end, true)
	l.attach(toEndpoint)
	g := l.guest()
	for on, to := range map[string]string{
		at("127.0.0.1", endpointPort): "203.0.113.9:443",
		at("::1", endpointPort):       "[2001:db8::9]:443",
	} {
		ln := l.listenerOf(end, order{To: on})
		c := l.dialled(g, ln, order{To: to})
		if got, err := sockoptOriginal(c); err != nil || got.String() != to {
			t.Errorf("got %s, %v; want %s", got, err, to)
		}
		l.hangUp(g, c)
		c = l.dialled(g, ln, order{To: on})
		if got, err := sockoptOriginal(c); err == nil {
			t.Errorf("dialled by itself: got %s", got)
		}
		l.hangUp(g, c)
	}
}

// sockoptOriginal does what proxies do behind iptables: SO_ORIGINAL_DST, or IP6T_SO_ORIGINAL_DST, both 80.
func sockoptOriginal(c net.Conn) (to netip.AddrPort, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return to, err
	}
	level, size := unix.IPPROTO_IP, uint32(unix.SizeofSockaddrInet4)
	v6 := c.RemoteAddr().(*net.TCPAddr).IP.To4() == nil
	if v6 {
		level, size = unix.IPPROTO_IPV6, unix.SizeofSockaddrInet6
	}
	var buf [unix.SizeofSockaddrInet6]byte
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), 80, uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		return to, errors.Join(err, errno)
	}
	port := binary.BigEndian.Uint16(buf[2:])
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(buf[8:24])), port), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(buf[4:8])), port), nil
}

// Seen from their own namespaces, two pods' connections to their endpoints are the same four numbers.
func TestPodsAreToldApartByNamespace(t *testing.T) {
	one := newLab(t)
	two := &lab{t: t, root: one.root, r: one.r, cgroup: bpfenv.Cgroup(t), pod: newNetns(t)}
	type call struct {
		l    *lab
		g    *guest
		ln   *net.TCPListener
		to   string
		want uint64
	}
	var calls []call
	for to, l := range map[string]*lab{"203.0.113.1:80": one, "203.0.113.2:80": two} {
		id := l.attach(toEndpoint)
		ln, err := Listen(context.Background(), l.pod, "tcp", at("127.0.0.1", endpointPort))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		g := l.guest()
		g.begin(order{To: to, Bind: "127.0.0.1:5555"})
		calls = append(calls, call{l, g, ln, to, id})
	}
	var conns []net.Conn
	for _, c := range calls { // both are connected before anybody asks
		conn, err := c.ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	if n := one.inFlight(); n != 2 {
		t.Errorf("%d rows in the table, want 2", n)
	}
	for i, c := range calls {
		o, err := c.l.r.origin(conns[i])
		if err != nil || o.addrPort().String() != c.to || o.Pod != c.want {
			t.Errorf("got %s of cgroup %d, %v; want %s of %d", o.addrPort(), o.Pod, err, c.to, c.want)
		}
		c.l.hangUp(c.g, conns[i])
	}
}
