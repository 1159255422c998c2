package redirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(guestEnv) != "" {
		os.Exit(guestMain(os.Stdin, os.Stdout))
	}
	if cgroup := os.Getenv(ownerEnv); cgroup != "" {
		os.Exit(ownerMain(cgroup, os.Getenv(rootEnv), os.Stdout))
	}
	os.Exit(bpfenv.Main(m))
}

// The addresses of a lab: the pod, and a host outside with which it shares a link.
const (
	pod4, outside4 = "10.83.0.1", "10.83.0.2"
	pod6, outside6 = "fd83::1", "fd83::2"
	podDevice      = "a0"
	endpointPort   = 4140
)

var both = []string{outside4, outside6}

func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// lab is one pod with a redirector on pins of its own.
type lab struct {
	t            *testing.T
	r            *Redirector
	root, cgroup string
	pod, outside *os.File // network namespaces
}

func newLab(t *testing.T) *lab {
	t.Helper()
	pod, outside := bpfenv.NewNetns(t), bpfenv.NewNetns(t)
	wire := bpfenv.Veth(t, pod, outside)
	if got := []string{wire.A4.String(), wire.B4.String(), wire.A6.String(), wire.B6.String(), wire.A}; !slices.Equal(got, []string{pod4, outside4, pod6, outside6, podDevice}) {
		t.Fatalf("the wire's addresses and device: %v", got)
	}
	l := &lab{t: t, root: pinRoot(t), cgroup: bpfenv.Cgroup(t), pod: netnsFile(t, pod), outside: netnsFile(t, outside)}
	// A default route, as a pod has: addresses of nobody are unreachable only outside.
	l.within(l.pod, func() error {
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: wire.B4.AsSlice()}), netlink.RouteAdd(&netlink.Route{Gw: wire.B6.AsSlice()}))
	})
	l.r = l.open()
	return l
}

// in is the same lab for a subtest.
func (l *lab) in(t *testing.T) *lab {
	sub := *l
	sub.t = t
	return &sub
}

func (l *lab) open() *Redirector {
	l.t.Helper()
	r, err := Open(context.Background(), Options{Root: l.root})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return r
}

// attach redirects the lab's pod and ends that with the test.
func (l *lab) attach(c Config) uint64 {
	l.t.Helper()
	ids, err := l.r.Attach(context.Background(), Pod{Cgroups: []string{l.cgroup}, Netns: l.pod, Config: c})
	if err != nil {
		l.t.Fatalf("%+v", err)
	}
	l.t.Cleanup(func() {
		if err := l.r.Detach(context.Background(), ids...); err != nil {
			l.t.Error(err)
		}
	})
	return ids[0]
}

func (l *lab) within(netns *os.File, f func() error) {
	l.t.Helper()
	if err := within(netns, f); err != nil {
		l.t.Fatal(err)
	}
}

// serve listens in a namespace and calls talk with each connection, which it closes afterwards.
func (l *lab) serve(netns *os.File, address string, talk func(net.Conn)) *net.TCPListener {
	l.t.Helper()
	ln, err := Listen(context.Background(), netns, "tcp", address)
	if err != nil {
		l.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				talk(c)
				// Closing with something unread would reset the connection under the client's questions.
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	l.t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln
}

// hosts listens outside on both addresses and says whom it spoke to.
func (l *lab) hosts(port int) {
	for _, host := range both {
		l.serve(l.outside, at(host, port), func(c net.Conn) { fmt.Fprintf(c, "direct from %s\n", host0(c.RemoteAddr())) })
	}
}

func host0(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// endpoints listens on the pod's loopback and says where the client wanted to go.
func (l *lab) endpoints() (all []*net.TCPListener) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		all = append(all, l.serve(l.pod, at(host, endpointPort), func(c net.Conn) {
			to, err := l.r.OriginalDst(c)
			if err != nil {
				fmt.Fprintf(c, "endpoint: %v\n", err)
				return
			}
			fmt.Fprintf(c, "endpoint for %s\n", to)
		}))
	}
	return all
}

func (l *lab) guest() *guest { return startGuest(l.t, l.cgroup, l.pod) }

// redirected fails the test unless the endpoint answered for to and the client believes to have reached it.
func (l *lab) redirected(got answer, to string) {
	l.t.Helper()
	want := netip.MustParseAddrPort(to)
	if got.Err != "" || got.Line != "endpoint for "+want.String() || got.Peer != want.String() {
		l.t.Errorf("connect to %s: got %+v, want the endpoint's answer", to, got)
	}
}

func (l *lab) direct(got answer, to string) {
	l.t.Helper()
	from := pod4
	if netip.MustParseAddrPort(to).Addr().Is6() {
		from = pod6
	}
	if got.Err != "" || got.Line != "direct from "+from || got.Peer != to {
		l.t.Errorf("connect to %s: got %+v, want the server's answer", to, got)
	}
}

func (l *lab) refused(got answer, to string) {
	l.t.Helper()
	if got.Errno != unix.ECONNREFUSED {
		l.t.Errorf("connect to %s: got %+v, want ECONNREFUSED", to, got)
	}
}

func newNetns(t *testing.T) *os.File { return netnsFile(t, bpfenv.NewNetns(t)) }

// netnsFile is another descriptor of the namespace.
func netnsFile(t *testing.T, ns *bpfenv.Netns) *os.File {
	t.Helper()
	return openFile(t, fmt.Sprintf("/proc/self/fd/%d", ns.FD()))
}

// pinRoot is a directory of pins in which no pod may be left at the end of the test.
func pinRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	t.Cleanup(func() {
		if left, _ := filepath.Glob(root + "/*/pod/*"); len(left) > 0 {
			t.Errorf("pins left: %v", left)
		}
	})
	return root
}
