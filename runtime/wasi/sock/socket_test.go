package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// blockingListener is a listener as a manager other than Go may hand it in.
func blockingListener(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			err = unix.Listen(fd, 10)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestListenerNeverBlocks(t *testing.T) {
	l, err := AdoptListener(blockingListener(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Accept(); err != unix.EAGAIN {
		t.Errorf("accept of nobody: %v", err)
	}
	local, err := l.Local()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(local); err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	var s *Socket
	for end := time.Now().Add(5 * time.Second); s == nil && time.Now().Before(end); {
		s, _ = l.Accept()
	}
	if s == nil {
		t.Fatal("nobody came")
	}
	defer s.Close()
	if n, err := s.Int(unix.IPPROTO_TCP, unix.TCP_NODELAY); n != 1 || err != nil {
		t.Errorf("TCP_NODELAY %d, %v", n, err)
	}
	if _, _, _, err := s.Recv([][]byte{make([]byte, 1)}, 0); err != unix.EAGAIN {
		t.Errorf("receive of nothing: %v", err)
	}
	big := make([]byte, 1<<20)
	for err = nil; err == nil; {
		_, err = s.Send([][]byte{big}, nil)
	}
	if err != unix.EAGAIN {
		t.Errorf("send into a full socket: %v", err)
	}
}

func TestAdoptListenerRefuses(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	idle := os.NewFile(uintptr(fd), "idle")
	defer idle.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, f := range []*os.File{idle, null} {
		if l, err := AdoptListener(f); err == nil {
			_ = l.Close()
			t.Errorf("%s was taken for a listener", f.Name())
		}
	}
}

func TestResolve(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{Node: "192.0.2.1", Service: "80"}, "192.0.2.1:80"},
		{Query{Node: "fe80::1%eth0", Service: "1", Family: unix.AF_INET6}, "[fe80::1]:1"},
		{Query{Passive: true, Service: "7", Family: unix.AF_INET}, "0.0.0.0:7"},
		{Query{Family: unix.AF_INET6}, "[::1]:0"},
		{Query{Node: "localhost", Family: unix.AF_INET}, "127.0.0.1:0"},
	} {
		got, err := Resolve(ctx, c.q)
		if err != nil || !slices.Contains(got, netip.MustParseAddrPort(c.want)) {
			t.Errorf("%+v: %v, %v, want %s", c.q, got, err, c.want)
		}
	}
	var dns *net.DNSError
	if _, err := Resolve(ctx, Query{Node: "localhost", Numeric: true}); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("a name where an address must be: %v", err)
	}
	var addr *net.AddrError
	if _, err := Resolve(ctx, Query{Node: "::1", Service: "65536"}); !errors.As(err, &addr) {
		t.Errorf("an impossible port: %v", err)
	}
	// A cancelled look-up returns at once, whatever the name servers do.
	gone, stop := context.WithCancel(context.Background())
	stop()
	if _, err := Resolve(gone, Query{Node: "name.invalid"}); err == nil {
		t.Error("a cancelled look-up succeeded")
	}
}
