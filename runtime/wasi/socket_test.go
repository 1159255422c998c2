package wasi

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Places for addresses in a raw guest's memory.
const (
	atAddress = 0x2600 // an address record
	atBuffer  = 0x2700 // what it points to
	atPort    = 0x2608
)

// address describes a buffer of n bytes with the content and returns the record's argument.
func (r *raw) address(n int, content ...byte) uint64 {
	b := make([]byte, n)
	copy(b, content)
	r.put(atBuffer, b)
	var record [8]byte
	binary.LittleEndian.PutUint32(record[:], atBuffer)
	binary.LittleEndian.PutUint32(record[4:], uint32(n))
	r.put(atAddress, record[:])
	return atAddress
}

func (r *raw) socket(family, kind uint64) uint64 {
	r.t.Helper()
	r.ok("sock_open", family, kind, atResult)
	return uint64(r.u32(atResult))
}

func version(v int) func(string) int { return func(string) int { return v } }

var loopback = []byte{127, 0, 0, 1}

// TestTCPBothVersions: a guest listens and connects to itself, in both shapes of the extension.
func TestTCPBothVersions(t *testing.T) {
	for v, name := range []string{"v1", "v2"} {
		for _, ip := range []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback} {
			t.Run(name+" "+ip.String(), func(t *testing.T) {
				if len(ip) == 16 {
					requireIPv6(t)
				}
				g := newRaw(t, Options{}, func(name string) int {
					if name == "sock_accept" {
						return 1 - v // the standard shape comes first in the table
					}
					return v
				})
				family := uint64(familyInet4)
				if len(ip) == 16 {
					family = familyInet6
				}
				address := func() uint64 {
					if v == 1 {
						return g.address(longAddress, append([]byte{byte(family), 0}, ip...)...)
					}
					return g.address(len(ip), ip...)
				}
				// name writes the address at atBuffer and returns the port.
				name := func(call string, fd uint64) uint32 {
					if v == 1 {
						g.ok(call, fd, g.address(longAddress), atPort)
						if got := g.bytes(atBuffer, uint32(2+len(ip))); got[0] != byte(family) || !bytes.Equal(got[2:], ip) {
							t.Errorf("%s: %v", call, got)
						}
					} else {
						g.ok(call, fd, g.address(16), atResult, atPort)
						if got := g.bytes(atBuffer, uint32(len(ip))); !bytes.Equal(got, ip) || g.u32(atResult) != uint32(2*family+2) {
							t.Errorf("%s: %v, type %d", call, got, g.u32(atResult))
						}
					}
					return g.u32(atPort)
				}
				l := g.socket(family, socketStream)
				g.ok("sock_bind", l, address(), 0)
				g.ok("sock_listen", l, 16)
				port := name("sock_getlocaladdr", l)
				c := g.socket(family, socketStream)
				g.ok("sock_connect", c, address(), uint64(port))
				if v == 1 {
					g.ok("sock_accept", l, 0, atResult)
				} else {
					g.ok("sock_accept", l, atResult)
				}
				s := uint64(g.u32(atResult))
				if got := name("sock_getpeeraddr", c); got != port {
					t.Errorf("peer port %d, want %d", got, port)
				}
				if name("sock_getpeeraddr", s) != name("sock_getlocaladdr", c) {
					t.Error("the two ends disagree about the client's port")
				}
				if n := g.Connections(); n != 1 {
					t.Errorf("%d connections", n)
				}
				if _, e := g.write(c, "ping"); e != success {
					t.Fatal(e)
				}
				if text, e := g.read(s, 10); text != "ping" || e != success {
					t.Errorf("%q, errno %d", text, e)
				}
				g.ok("sock_shutdown", c, shutdownWrite)
				if text, e := g.read(s, 10); text != "" || e != success {
					t.Errorf("after shutdown: %q, errno %d", text, e)
				}
			})
		}
	}
}

func TestUDPBothVersions(t *testing.T) {
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	port := uint64(peer.LocalAddr().(*net.UDPAddr).Port)
	for v, name := range []string{"v1", "v2"} {
		t.Run(name, func(t *testing.T) {
			g := newRaw(t, Options{}, version(v))
			fd := g.socket(familyInet4, socketDgram)
			g.put(atData, []byte("ping"))
			p, n := g.vector(4)
			g.ok("sock_send_to", fd, p, n, g.address(4, loopback...), port, 0, atResult)
			b := make([]byte, 10)
			m, from, err := peer.ReadFrom(b)
			if err != nil || string(b[:m]) != "ping" {
				t.Fatalf("%q, %v", b[:m], err)
			}
			time.AfterFunc(20*time.Millisecond, func() { _, _ = peer.WriteTo([]byte("too long"), from) })
			p, n = g.vector(3)
			if v == 1 {
				g.ok("sock_recv_from", fd, p, n, g.address(longAddress), 0, atPort, atResult, atResult+4)
				if got := g.u32(atPort); uint64(got) != port {
					t.Errorf("port %d, want %d", got, port)
				}
			} else {
				g.ok("sock_recv_from", fd, p, n, g.address(16), 0, atResult, atResult+4)
			}
			if got := string(g.bytes(atData, g.u32(atResult))); got != "too" {
				t.Errorf("received %q", got)
			}
			if got := g.u32(atResult+4) & 0xffff; got != recvTruncated {
				t.Errorf("flags %d, want truncated", got)
			}
		})
	}
}

func TestConnectOutcomes(t *testing.T) {
	_, addr := listen(t)
	port := uint64(portOf(t, addr))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := uint64(portOf(t, closed.Addr().String()))
	_ = closed.Close()
	g := newRaw(t, Options{}, nil)

	t.Run("refused", func(t *testing.T) {
		g.want(fromLinux[unix.ECONNREFUSED], "sock_connect", g.socket(1, 2), g.address(4, loopback...), nobody)
	})
	t.Run("non-blocking", func(t *testing.T) {
		fd := g.socket(1, 2)
		g.ok("fd_fdstat_set_flags", fd, uint64(flagNonblock))
		if e := g.call("sock_connect", fd, g.address(4, loopback...), port); e != eInprogress && e != success {
			t.Fatalf("errno %d", e)
		}
		g.poll(fdSubscription(1, eventFdWrite, uint32(fd)))
		g.ok("sock_getsockopt", fd, levelSocket, optionError, atData, 4)
		if v := g.u32(atData); v != 0 {
			t.Errorf("error option %d", v)
		}
	})
	t.Run("non-blocking, refused", func(t *testing.T) {
		fd := g.socket(1, 2)
		g.ok("fd_fdstat_set_flags", fd, uint64(flagNonblock))
		e := g.call("sock_connect", fd, g.address(4, loopback...), nobody)
		if e == eInprogress {
			g.poll(fdSubscription(1, eventFdWrite, uint32(fd)))
			g.ok("sock_getsockopt", fd, levelSocket, optionError, atData, 4)
			e = errno(g.u32(atData))
		}
		if e != fromLinux[unix.ECONNREFUSED] {
			t.Errorf("errno %d", e)
		}
	})
	t.Run("no network", func(t *testing.T) {
		g := newRaw(t, Options{NoNetwork: true}, nil)
		g.want(fromLinux[unix.EACCES], "sock_open", 1, 2, atResult)
		p, n := g.path(atPath, "localhost")
		g.want(fromLinux[unix.EACCES], "sock_getaddrinfo", p, n, 0, 0, 0, atResult, 1, atResult)
	})
	t.Run("not a socket", func(t *testing.T) {
		g, _ := withRoot(t, false)
		g.want(eNotsock, "sock_connect", 3, g.address(4, loopback...), port)
		g.want(eNotsock, "sock_shutdown", 3, 1)
		g.want(eNotsock, "sock_getsockopt", 3, 0, 0, atData, 4)
	})
}

func TestSocketOptions(t *testing.T) {
	g := newRaw(t, Options{}, nil)
	fd := g.socket(familyInet4, socketStream)
	get := func(name uint64) uint32 {
		t.Helper()
		// Once with the length by value, once by pointer.
		g.ok("sock_getsockopt", fd, levelSocket, name, atData, 4)
		v := g.u32(atData)
		g.put(atResult, []byte{16, 0, 0, 0})
		g.ok("sock_getsockopt", fd, levelSocket, name, atData, atResult)
		if again, n := g.u32(atData), g.u32(atResult); again != v || n != 4 {
			t.Errorf("option %d: %d by value, %d by pointer with length %d", name, v, again, n)
		}
		return v
	}
	set := func(level, name uint64, v ...uint32) {
		t.Helper()
		var b []byte
		for _, v := range v {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		g.put(atData, b)
		g.ok("sock_setsockopt", fd, level, name, atData, uint64(len(b)))
	}
	if v := get(optionType); v != socketStream {
		t.Errorf("type %d", v)
	}
	for _, name := range []uint64{optionReuseaddr, optionKeepalive, optionBroadcast, optionOOBInline, optionDontroute} {
		set(levelSocket, name, 1)
		if v := get(name); v == 0 {
			t.Errorf("option %d is still off", name)
		}
	}
	set(levelSocket, optionRcvbuf, 100_000)
	if v := get(optionRcvbuf); v < 100_000 {
		t.Errorf("receive buffer %d", v)
	}
	for _, o := range []struct{ name, value uint32 }{
		{unix.TCP_NODELAY, 0}, {optionNodelay, 1}, {optionNodelay, 0}, {unix.TCP_KEEPIDLE, 77}, {unix.TCP_KEEPINTVL, 7},
		{unix.TCP_KEEPCNT, 3}, {unix.TCP_USER_TIMEOUT, 5000}, {unix.TCP_CORK, 1},
	} {
		set(levelTCP, uint64(o.name), o.value)
		g.ok("sock_getsockopt", fd, levelTCP, uint64(o.name), atData, 4)
		if v := g.u32(atData); v != o.value {
			t.Errorf("TCP option %d: %d, want %d", o.name, v, o.value)
		}
	}
	set(levelSocket, optionLinger, 1, 0)
	g.want(fromLinux[unix.ENOPROTOOPT], "sock_getsockopt", fd, levelSocket, 99, atData, 4)
	g.want(fromLinux[unix.ENOPROTOOPT], "sock_getsockopt", fd, 1, 0, atData, 4)
	g.want(eInval, "sock_setsockopt", fd, levelSocket, optionReuseaddr, atData, 3)
	for level, name := range map[uint64]uint64{levelSocket: optionAcceptconn, levelTCP: unix.TCP_REPAIR, levelIPv6: unix.IPV6_HDRINCL, 99: 1} {
		g.want(fromLinux[unix.ENOPROTOOPT], "sock_setsockopt", fd, level, name, atData, 4)
	}

	// A receive timeout is kept by the waits, since the socket itself never blocks.
	udp := g.socket(familyInet4, socketDgram)
	g.ok("sock_bind", udp, g.address(4, loopback...), 0)
	timeout := make([]byte, 16)
	binary.LittleEndian.PutUint64(timeout[8:], 30_000)
	g.put(atData, timeout)
	g.ok("sock_setsockopt", udp, levelSocket, optionRcvtimeo, atData, 16)
	began := time.Now()
	p, n := g.vector(1)
	g.want(eAgain, "sock_recv", udp, p, n, 0, atResult, atResult+4)
	if took := time.Since(began); took < 30*time.Millisecond || took > 5*time.Second {
		t.Errorf("a receive with a timeout of 30ms took %v", took)
	}
}

// TestV6Only: a socket of both families leaves IPv4's port alone when it is asked to.
func TestV6Only(t *testing.T) {
	requireIPv6(t)
	g := newRaw(t, Options{}, version(1))
	fd := g.socket(familyInet6, socketStream)
	for _, v := range []byte{0, 1} {
		g.put(atData, []byte{v, 0, 0, 0})
		g.ok("sock_setsockopt", fd, levelIPv6, unix.IPV6_V6ONLY, atData, 4)
		g.ok("sock_getsockopt", fd, levelIPv6, unix.IPV6_V6ONLY, atData, 4)
		if got := g.u32(atData); got != uint32(v) {
			t.Errorf("IPV6_V6ONLY %d, want %d", got, v)
		}
	}
	g.ok("sock_bind", fd, g.address(longAddress, familyInet6, 0), 0)
	g.ok("sock_listen", fd, 1)
	g.ok("sock_getlocaladdr", fd, g.address(longAddress), atPort)
	port := uint64(g.u32(atPort))
	g.want(fromLinux[unix.ECONNREFUSED], "sock_connect", g.socket(familyInet4, socketStream), g.address(4, loopback...), port)
	g.ok("sock_bind", g.socket(familyInet4, socketStream), g.address(4, 0, 0, 0, 0), port)
}

// TestGetaddrinfo fills lists as wasmedge_wasi_socket prepares them.
func TestGetaddrinfo(t *testing.T) {
	g := newRaw(t, Options{}, nil)
	const infos, addrs, data, hints, head = 0x3000, 0x3200, 0x3400, 0x3600, 0x3700
	le := binary.LittleEndian
	lookup := func(node, service string, family byte, most uint64) ([]string, errno) {
		t.Helper()
		for i := range uint32(4) {
			info, addr := make([]byte, addrinfoSize), make([]byte, sockaddrSize)
			le.PutUint32(info[12:], addrs+i*sockaddrSize)
			if i < 3 {
				le.PutUint32(info[24:], infos+(i+1)*addrinfoSize)
			}
			le.PutUint32(addr[8:], data+i*inet6Data)
			g.put(infos+i*addrinfoSize, info)
			g.put(addrs+i*sockaddrSize, addr)
		}
		h := make([]byte, addrinfoSize)
		h[2], h[3] = family, socketStream
		g.put(hints, h)
		g.put(head, le.AppendUint32(nil, infos))
		p, n := g.path(atPath, node)
		sp, sn := g.path(atPath2, service)
		if e := g.call("sock_getaddrinfo", p, n, sp, sn, hints, head, most, atResult); e != success {
			return nil, e
		}
		var list []string
		for i := range g.u32(atResult) {
			size := g.u32(addrs + i*sockaddrSize + 4)
			b := g.bytes(data+i*inet6Data, size)
			ip := net.IP(b[2:6])
			if size == inet6Data {
				ip = net.IP(b[6:22])
			}
			list = append(list, (&net.TCPAddr{IP: ip, Port: int(binary.BigEndian.Uint16(b))}).String())
		}
		return list, success
	}
	for _, c := range []struct {
		node, service string
		family        byte
		most          uint64
		want          string
		errno         errno
	}{
		{"127.0.0.1\x00", "80", familyInet4, 4, "127.0.0.1:80", 0},
		{"::1", "http", familyAny, 4, "[::1]:80", 0},
		{"", "9", familyAny, 4, "127.0.0.1:9 [::1]:9", 0},
		{"", "9", familyAny, 1, "127.0.0.1:9", 0},
		{"localhost", "", familyInet4, 4, "127.0.0.1:0", 0},
		{"::1", "80", familyInet4, 4, "", infoNoname},
		{"127.0.0.1", "no such service", familyAny, 4, "", infoService},
		{strings.Repeat("x", 2000), "", familyAny, 4, "", eNametoolng},
	} {
		got, e := lookup(c.node, c.service, c.family, c.most)
		if strings.Join(got, " ") != c.want || e != c.errno {
			t.Errorf("%.20q %q: %q, errno %d, want %q, errno %d", c.node, c.service, got, e, c.want, c.errno)
		}
	}
}

// TestUnixSockets: only where the guest's "/" is the process's, and never through a link.
func TestUnixSockets(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "hachi") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(dir, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	at := func(g *raw, name string) uint64 {
		return g.address(longAddress, append([]byte{familyUnix, 0}, dir+"/"+name...)...)
	}
	g := newRaw(t, Options{Preopens: []Preopen{{Guest: "/", Dir: openDir(t, "/")}}}, version(1))
	g.ok("sock_connect", g.socket(familyUnix, socketStream), at(g, "s"), 0)
	g.ok("sock_bind", g.socket(familyUnix, socketStream), at(g, "mine"), 0)
	g.want(eNotdir, "sock_connect", g.socket(familyUnix, socketStream), at(g, "link/s"), 0)
	proc := g.address(longAddress, append([]byte{familyUnix, 0}, "/proc/self/s"...)...)
	g.want(eNotdir, "sock_connect", g.socket(familyUnix, socketStream), proc, 0)

	elsewhere := newRaw(t, Options{Preopens: []Preopen{{Guest: "/", Dir: openDir(t, dir)}}}, version(1))
	elsewhere.want(eNotsup, "sock_connect", elsewhere.socket(familyUnix, socketStream), at(elsewhere, "s"), 0)
	readOnly := newRaw(t, Options{Preopens: []Preopen{{Guest: "/", Dir: openDir(t, "/"), ReadOnly: true}}}, version(1))
	readOnly.want(eRofs, "sock_bind", readOnly.socket(familyUnix, socketStream), at(readOnly, "other"), 0)
}

// TestImportShapes: an import that fits no shape, or is not known, fails with its name.
func TestImportShapes(t *testing.T) {
	for _, c := range []struct{ name, shape, want string }{
		{"sock_accept", "iiii", "has type (iiii), not (iii) or (ii)"},
		{"fd_write", "iiii!", "has type (iiii!), not (iiii)"},
		{"thread_spawn", "i", "not provided"},
	} {
		if _, err := find(ModuleName, c.name, c.shape); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, name := range []string{"sock_open_v2", "sock_recv_from_v2"} {
		if _, err := find(ModuleName, name, functions[strings.TrimSuffix(name, "_v2")][0].signature); err != nil {
			t.Error(err)
		}
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

func requireIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 loopback on this machine: %v", err)
	}
	_ = l.Close()
}
