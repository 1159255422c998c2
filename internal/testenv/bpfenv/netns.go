package bpfenv

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

// Netns is a network namespace of the test's own, with its loopback up. A nil one is the machine's.
type Netns struct{ handle netns.NsHandle }

// NewNetns makes a namespace, which ends with the test.
func NewNetns(t testing.TB) *Netns {
	t.Helper()
	testenv.NeedRoot(t)
	var n *Netns
	inThread(t, func() {
		h, err := netns.New()
		if err != nil {
			t.Errorf("make network namespace: %v", err)
			return
		}
		n = &Netns{h}
		if err := up("lo"); err != nil {
			t.Error(err)
		}
	})
	if n == nil {
		t.FailNow()
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// FD is the namespace's descriptor, owned by the Netns.
func (n *Netns) FD() int { return int(n.handle) }

// Do runs f on a thread that is in the namespace. f must not start goroutines.
func (n *Netns) Do(t testing.TB, f func()) {
	t.Helper()
	if n == nil {
		f()
		return
	}
	inThread(t, func() {
		if err := netns.Set(n.handle); err != nil {
			t.Errorf("enter network namespace: %v", err)
			return
		}
		f()
	})
}

// inThread runs f on a locked thread and brings the thread home.
func inThread(t testing.TB, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		t.Fatalf("network namespace: %v", err)
	}
	defer home.Close()
	f()
	if err := netns.Set(home); err != nil {
		// The thread stays locked, so that nobody else gets it.
		t.Fatalf("leave network namespace: %v", err)
	}
	runtime.UnlockOSThread()
}

// A Wire joins two namespaces.
type Wire struct {
	A4, B4, A6, B6 netip.Addr // the ends' addresses
	A, B           string     // and devices
}

// Veth joins a and b by a pair of devices with addresses of both families.
func Veth(t testing.TB, a, b *Netns) Wire {
	t.Helper()
	w := Wire{netip.MustParseAddr("10.83.0.1"), netip.MustParseAddr("10.83.0.2"), netip.MustParseAddr("fd83::1"), netip.MustParseAddr("fd83::2"), "a0", "b0"}
	var err error
	a.Do(t, func() {
		err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: w.A}, PeerName: w.B, PeerNamespace: netlink.NsFd(b.FD())})
		if err == nil {
			err = addresses(w.A, w.A4, w.A6)
		}
	})
	if err != nil {
		t.Fatalf("make veth: %v", err)
	}
	b.Do(t, func() { err = addresses(w.B, w.B4, w.B6) })
	if err != nil {
		t.Fatalf("make veth: %v", err)
	}
	return w
}

func addresses(device string, v4, v6 netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, p := range []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)} {
		a, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

func up(device string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}
