package gowasm

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

// The programs check themselves: deadlines, closing, half-closing, errors, addresses, options.
func TestSockets(t *testing.T) {
	module := built(t, "plain")
	for _, what := range []string{"tcp", "udp", "families"} {
		t.Run(what, func(t *testing.T) {
			if got := start(t, module, what).wait(); got != "ok "+what+"\n" {
				t.Errorf("printed %q", got)
			}
		})
	}
}

// Unix sockets have names only where the guest's root is the engine's.
func TestUnixSockets(t *testing.T) {
	dir := testenv.ShortDir(t)
	if got := start(t, "-v", "/:/", "-e", "TMPDIR="+dir, built(t, "plain"), "unix").wait(); got != "ok unix\n" {
		t.Errorf("printed %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "stream.sock")); !os.IsNotExist(err) {
		t.Errorf("the listener's file after its close: %v", err)
	}
}

// A full backlog never answers.
func TestDialTimeout(t *testing.T) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(s, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	for {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
	}
	start(t, built(t, "plain"), "timeout", address).wait()
}

// A port that hachi has opened is the program's when it listens there, as often as it does.
func TestListenAgain(t *testing.T) {
	port := freePort(t)
	for name, c := range map[string]struct{ flags []string }{
		"published": {[]string{"-p", "127.0.0.1:" + port + ":8080"}},
		"own":       {},
	} {
		t.Run(name, func(t *testing.T) {
			address := "127.0.0.1:" + port
			if name == "published" {
				address = ":8080" // which is at port on this side
			}
			g := start(t, append(c.flags, built(t, "plain"), "again", address)...)
			for served := 0; served < 3; {
				conn := g.dial("127.0.0.1:" + port)
				// A connection may have met a listener on its way out.
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				if got, _ := io.ReadAll(conn); string(got) == "here" {
					served++
				}
				_ = conn.Close()
			}
			g.wait()
		})
	}
}

// A program that listens on loopback only is not published against its will; where hachi has just that
// address open, it gets it.
func TestListenOnPublishedAddress(t *testing.T) {
	port := freePort(t)
	g := start(t, "-p", "127.0.0.1:"+port+":"+port, built(t, "plain"), "again", "127.0.0.1:"+port)
	for range 3 {
		for got := ""; got != "here"; {
			conn := g.dial("127.0.0.1:" + port)
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			b, _ := io.ReadAll(conn)
			got = string(b)
			_ = conn.Close()
		}
	}
	g.wait()
}

func TestFileListener(t *testing.T) {
	port := freePort(t)
	g := start(t, "-p", "127.0.0.1:"+port+":80", built(t, "plain"), "file")
	c := g.dial("127.0.0.1:" + port)
	defer c.Close()
	got, err := io.ReadAll(c)
	if want := c.RemoteAddr().String() + " " + c.LocalAddr().String(); err != nil || string(got) != want {
		t.Errorf("the guest's view of the connection: %q, %v; want %q", got, err, want)
	}
	g.wait()
}

// Go's own resolver asks the name server of the guest's /etc/resolv.conf.
func TestLookup(t *testing.T) {
	testenv.NeedRoot(t) // for port 53
	server := nameServer(t, map[string][]byte{"web.hive.test.": {127, 0, 0, 1}})
	root := t.TempDir()
	writeFile(t, root, "etc/resolv.conf", "nameserver "+server+"\nsearch hive.test\n")
	writeFile(t, root, "etc/hosts", "127.0.0.7 queen\n")
	got := start(t, "-v", root+":/:ro", built(t, "plain"), "lookup", "web", "web.hive.test", "queen", "drone.hive.test").wait()
	want := "web 127.0.0.1\nweb.hive.test 127.0.0.1\nqueen 127.0.0.7\ndrone.hive.test not found\nok lookup\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A guest without an /etc asks the host, which then needs one.
func TestLookupByHost(t *testing.T) {
	name, address := hostsEntry(t)
	got := start(t, "-v", "/etc:/elsewhere:ro", built(t, "plain"), "lookup", "localhost", name).wait()
	if want := "localhost 127.0.0.1 ::1\n" + name + " " + address + "\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// hostsEntry is a name of this machine's /etc/hosts that has one address, and no other meaning.
func hostsEntry(t *testing.T) (name, address string) {
	t.Helper()
	text, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			count[f[i]]++
			if f[i] != "localhost" && !strings.HasPrefix(f[i], "ip6-") && address == "" {
				name, address = f[i], f[0]
			}
		}
	}
	if address == "" || count[name] != 1 {
		t.Skip("/etc/hosts has no name with one address but localhost")
	}
	return name, address
}

// nameServer answers for A records on an address of loopback, and returns the address.
func nameServer(t *testing.T, names map[string][]byte) string {
	t.Helper()
	const address = "127.77.53.1"
	c, err := net.ListenPacket("udp4", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(answer(buf[:n], names), from)
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return address
}

// answer makes the answer to a DNS question (RFC 1035, section 4).
func answer(q []byte, names map[string][]byte) []byte {
	var name strings.Builder
	at := 12
	for q[at] != 0 {
		name.Write(q[at+1 : at+1+int(q[at])])
		name.WriteByte('.')
		at += 1 + int(q[at])
	}
	end := at + 5
	kind := binary.BigEndian.Uint16(q[at+1:])
	ip, known := names[strings.ToLower(name.String())]
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x81, 0x80 // an answer; recursion was wanted and is there
	clear(a[6:12])
	switch {
	case !known:
		a[3] |= 3 // no such name
	case kind == 1:
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, byte(len(ip)))
		a = append(a, ip...)
	}
	return a
}

func writeFile(t *testing.T, root, name, text string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
