package redirect

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guestEnv turns the test binary into a guest: a process in the pod that connects as it is told on its stdin.
const guestEnv = "HACHI_TEST_GUEST"

// order is one thing a guest does.
type order struct {
	To       string // address and port
	UDP      bool
	Protocol int // of socket(2)
	Mapped   bool
	Bind     string
	Device   string
	Mark     int
	FastOpen bool
	Deferred bool // connect now, SYN with the first data
	NonBlock bool
	Send     int    // bytes to send before the end of what is sent and the greeting
	Again    string // second destination of the same socket, after the first connection was dissolved
	// Count connects one after the other, without looking closely, until told to stop with an empty line.
	Count bool
	// Hold makes a socket, one that listens at To if that is given, and keeps it until told to stop with an empty line.
	Hold bool
}

// answer is what came of it.
type answer struct {
	Peer, Local, Line string
	Device            string
	Err               string
	Errno             unix.Errno
	FD                int
	Endpoint, Direct  int
	Other             map[string]int
}

type guest struct {
	t   *testing.T
	pid int
	in  *json.Encoder
	raw io.Writer
	out *json.Decoder
}

func startGuest(t *testing.T, cgroup string, netns *os.File) *guest {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), guestEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The parent-death signal is about the thread that started the child, so that one stays.
	started, done := make(chan error), make(chan struct{})
	go within(netns, func() error {
		started <- cmd.Start()
		<-done
		return nil
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("guest: %v", err)
		}
		close(done)
	})
	return &guest{t: t, pid: cmd.Process.Pid, in: json.NewEncoder(in), raw: in, out: json.NewDecoder(out)}
}

func (g *guest) do(o order) answer {
	g.t.Helper()
	g.begin(o)
	return g.end()
}

func (g *guest) begin(o order) {
	g.t.Helper()
	if err := g.in.Encode(o); err != nil {
		g.t.Fatal(err)
	}
}

// stop ends an order that counts.
func (g *guest) stop() answer {
	g.t.Helper()
	if _, err := io.WriteString(g.raw, "\n"); err != nil {
		g.t.Fatal(err)
	}
	return g.end()
}

// socket takes a socket out of the guest, which keeps nothing of it. The caller closes it.
func (g *guest) socket(o order) int {
	g.t.Helper()
	o.Hold = true
	g.begin(o)
	held := g.end()
	if held.Err != "" {
		g.t.Fatal(held.Err)
	}
	defer g.stop()
	pidfd, err := unix.PidfdOpen(g.pid, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, held.FD, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	return fd
}

func (g *guest) end() (a answer) {
	g.t.Helper()
	if err := g.out.Decode(&a); err != nil {
		g.t.Fatal(err)
	}
	return a
}

func guestMain(in io.Reader, out io.Writer) int {
	lines, answers := bufio.NewReader(in), json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return 0
		}
		var o order
		if err == nil {
			err = json.Unmarshal(line, &o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			return 1
		}
		var a answer
		switch {
		case o.Count:
			a, err = count(o, lines)
		case o.Hold:
			a, err = hold(o, lines, answers)
		case o.UDP:
			a, err = datagram(o)
		default:
			a, err = connect(o)
		}
		if err != nil {
			a.Err = err.Error()
			errors.As(err, &a.Errno)
		}
		if err := answers.Encode(a); err != nil {
			return 1
		}
	}
}

func sockaddr(to netip.AddrPort, mapped bool) (unix.Sockaddr, int) {
	if to.Addr().Is4() && !mapped {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}, unix.AF_INET6
}

func addrPort(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return fmt.Sprintf("%T", sa)
}

func connect(o order) (a answer, err error) {
	to, err := netip.ParseAddrPort(o.To)
	if err != nil {
		return a, err
	}
	sa, family := sockaddr(to, o.Mapped)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, o.Protocol)
	if err != nil {
		return a, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := prepare(fd, o); err != nil {
		return a, err
	}
	if err := dial(fd, sa, o); err != nil {
		return a, err
	}
	if o.Send > 0 {
		for left := o.Send; left > 0; {
			n, err := unix.Write(fd, make([]byte, left))
			if err != nil && !errors.Is(err, unix.EINTR) {
				return a, fmt.Errorf("write: %w", err)
			}
			left -= max(n, 0)
		}
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
			return a, fmt.Errorf("shutdown: %w", err)
		}
	}
	if o.Again != "" {
		if a, err = look(fd); err != nil {
			return a, err
		}
		var unspec unix.RawSockaddr
		unspec.Family = unix.AF_UNSPEC
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec)); errno != 0 {
			return a, fmt.Errorf("dissolve: %w", errno)
		}
		again, _ := sockaddr(netip.MustParseAddrPort(o.Again), o.Mapped)
		if err := unix.Connect(fd, again); err != nil {
			return a, fmt.Errorf("connect again: %w", err)
		}
	}
	return look(fd)
}

func prepare(fd int, o order) error {
	wait := unix.Timeval{Sec: 5}
	errs := []error{
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
	}
	if o.Device != "" {
		errs = append(errs, unix.BindToDevice(fd, o.Device))
	}
	if o.Deferred {
		errs = append(errs, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
	}
	if o.Mark != 0 {
		errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, o.Mark))
	}
	if o.Bind != "" {
		sa, _ := sockaddr(netip.MustParseAddrPort(o.Bind), o.Mapped)
		errs = append(errs, unix.Bind(fd, sa))
	}
	return errors.Join(errs...)
}

func dial(fd int, sa unix.Sockaddr, o order) error {
	switch {
	case o.FastOpen:
		if err := unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, sa); err != nil {
			return fmt.Errorf("sendto: %w", err)
		}
	case o.NonBlock:
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		if err := unix.Connect(fd, sa); !errors.Is(err, unix.EINPROGRESS) {
			return fmt.Errorf("connect that does not block: %w", err)
		}
		if err := connected(fd); err != nil {
			return err
		}
		return unix.SetNonblock(fd, false)
	default:
		err := unix.Connect(fd, sa)
		if errors.Is(err, unix.EINTR) { // Go's own signals; the kernel goes on connecting
			err = connected(fd)
		}
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	if o.Deferred {
		if _, err := unix.Write(fd, []byte("x")); err != nil {
			return fmt.Errorf("connect, at the first write: %w", err)
		}
	}
	return nil
}

// connected waits for a connect that goes on without its caller.
func connected(fd int) error {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(ready, 5000)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(ready, 5000)
	}
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if n != 1 {
		return fmt.Errorf("connect: %w", unix.ETIMEDOUT)
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		return fmt.Errorf("connect, later: %w", errors.Join(err, unix.Errno(code)))
	}
	return nil
}

// look reads the greeting and what the socket says about itself.
func look(fd int) (a answer, err error) {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return a, fmt.Errorf("getpeername: %w", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return a, fmt.Errorf("getsockname: %w", err)
	}
	a.Peer, a.Local = addrPort(peer), addrPort(local)
	a.Device, _ = unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	buf := make([]byte, 256)
	for !strings.HasSuffix(a.Line, "\n") {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return a, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return a, fmt.Errorf("read after %q: %w", a.Line, io.EOF)
		}
		a.Line += string(buf[:n])
	}
	a.Line = strings.TrimSuffix(a.Line, "\n")
	return a, nil
}

func datagram(o order) (a answer, err error) {
	c, err := net.Dial("udp", o.To)
	if err != nil {
		return a, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return a, err
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	a.Peer, a.Local, a.Line = c.RemoteAddr().String(), c.LocalAddr().String(), string(buf[:n])
	return a, err
}

func count(o order, stop *bufio.Reader) (answer, error) {
	a := answer{Other: map[string]int{}}
	stopped := make(chan error, 1)
	go func() {
		_, err := stop.ReadBytes('\n')
		stopped <- err
	}()
	for {
		select {
		case err := <-stopped:
			return a, err
		default:
		}
		one, err := connect(order{To: o.To})
		switch {
		case err != nil:
			a.Other[err.Error()]++
		case strings.HasPrefix(one.Line, "endpoint for "):
			a.Endpoint++
		case strings.HasPrefix(one.Line, "direct"):
			a.Direct++
		default:
			a.Other[one.Line]++
		}
	}
}

func hold(o order, stop *bufio.Reader, answers *json.Encoder) (answer, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if o.To != "" {
		sa, family = sockaddr(netip.MustParseAddrPort(o.To), o.Mapped)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, o.Protocol)
	if err != nil {
		return answer{}, err
	}
	defer unix.Close(fd)
	if sa != nil {
		if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 16)); err != nil {
			return answer{}, err
		}
	}
	if err := answers.Encode(answer{FD: fd}); err != nil {
		return answer{}, err
	}
	_, err = stop.ReadBytes('\n')
	return answer{}, err
}
