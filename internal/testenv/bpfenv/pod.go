package bpfenv

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout bounds every wait of the helpers. It is long, for a busy machine.
const Timeout = time.Minute

// A Pod is a cgroup in a network namespace, and the sockets made there.
type Pod struct {
	Cgroup string
	ID     uint64
	Netns  *Netns

	broker *broker
}

// NewPod makes a cgroup, and a process in it and in ns that makes the pod's sockets; nil is the machine's own
// namespace. Both end with the test.
func NewPod(t testing.TB, ns *Netns) *Pod {
	t.Helper()
	return NewPodIn(t, Cgroup(t), ns)
}

// NewPodIn is NewPod in a cgroup that exists.
func NewPodIn(t testing.TB, cgroup string, ns *Netns) *Pod {
	t.Helper()
	p := &Pod{Cgroup: cgroup, ID: ID(t, cgroup), Netns: ns}
	p.broker = startBroker(t, cgroup, ns)
	t.Cleanup(p.broker.stop)
	return p
}

// Pid is a process in the pod's cgroup and namespace.
func (p *Pod) Pid() int { return p.broker.cmd.Process.Pid }

// Socket makes a socket, non-blocking and closed on exec, which the caller closes.
func (p *Pod) Socket(domain, typ, proto int) (int, error) { return p.broker.socket(domain, typ, proto) }

// Dial connects a socket of the pod: "tcp" or "udp", family by address.
func (p *Pod) Dial(network string, to netip.AddrPort) (net.Conn, error) {
	return p.DialFrom(network, netip.AddrPort{}, to)
}

// DialFrom is Dial from a bound address, if from is valid.
func (p *Pod) DialFrom(network string, from, to netip.AddrPort) (net.Conn, error) {
	fd, err := p.socketFor(network, to.Addr())
	if err != nil {
		return nil, err
	}
	if from.IsValid() {
		if err := unix.Bind(fd, sockaddr(from)); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("bind %v: %w", from, err)
		}
	}
	if err := connect(fd, to); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %v: %w", to, err)
	}
	f := os.NewFile(uintptr(fd), network)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(Timeout))
}

func connect(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, sockaddr(to))
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(poll, int(Timeout.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return os.ErrDeadlineExceeded
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		return err
	}
}

// Listen listens for TCP with a socket of the pod until the test ends. Port 0 is any.
func (p *Pod) Listen(t testing.TB, on netip.AddrPort) *net.TCPListener {
	t.Helper()
	fd, err := p.socketFor("tcp", on.Addr())
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sockaddr(on)), unix.Listen(fd, 128))
	if err != nil {
		t.Fatalf("listen on %v: %v", on, err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// PacketConn binds a UDP socket of the pod until the test ends.
func (p *Pod) PacketConn(t testing.TB, on netip.AddrPort) *net.UDPConn {
	t.Helper()
	fd, err := p.socketFor("udp", on.Addr())
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close()
	if err := unix.Bind(fd, sockaddr(on)); err != nil {
		t.Fatalf("bind %v: %v", on, err)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Timeout)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.UDPConn)
}

func (p *Pod) socketFor(network string, a netip.Addr) (int, error) {
	domain, typ := unix.AF_INET, unix.SOCK_STREAM
	if a.Is6() {
		domain = unix.AF_INET6
	}
	if network == "udp" {
		typ = unix.SOCK_DGRAM
	}
	return p.Socket(domain, typ, 0)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
