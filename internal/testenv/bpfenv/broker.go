package bpfenv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket belongs for its life to the cgroup and the network namespace of the process that made it, and so does what
// it accepts. So one small process per pod makes sockets and passes them on, and the test does the rest itself.

// brokerEnv marks the second process of a test binary.
const brokerEnv = "HACHI_TEST_BROKER"

// broke serves socket(2) on descriptor 3 until the test ends.
func broke() int {
	const conn = 3
	var ask [12]byte
	for {
		n, err := unix.Read(conn, ask[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != len(ask) {
			return 0
		}
		arg := func(i int) int { return int(binary.NativeEndian.Uint32(ask[4*i:])) }
		var answer [4]byte
		fd, err := unix.Socket(arg(0), arg(1)|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, arg(2))
		var rights []byte
		if err == nil {
			rights = unix.UnixRights(fd)
		} else {
			var errno unix.Errno
			errors.As(err, &errno)
			binary.NativeEndian.PutUint32(answer[:], uint32(errno))
		}
		if err := unix.Sendmsg(conn, answer[:], rights, nil, 0); err != nil {
			fmt.Fprintln(os.Stderr, "socket broker:", err)
			return 1
		}
		if err == nil {
			unix.Close(fd)
		}
		// Then the socket is the test's alone, and ends when the test closes it.
		if err := unix.Send(conn, answer[:], 0); err != nil {
			fmt.Fprintln(os.Stderr, "socket broker:", err)
			return 1
		}
	}
}

// broker is the test's side.
type broker struct {
	mu   sync.Mutex // held from a question to its answer
	conn int
	cmd  *exec.Cmd
}

func startBroker(t testing.TB, cgroup string, ns *Netns) *broker {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "broker")
	defer theirs.Close()
	b := &broker{conn: pair[0], cmd: exec.Command("/proc/self/exe")}
	b.cmd.Env = append(os.Environ(), brokerEnv+"=1")
	b.cmd.Stderr = os.Stderr
	b.cmd.ExtraFiles = []*os.File{theirs}
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	b.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	ns.Do(t, func() { err = b.cmd.Start() })
	if err != nil {
		t.Fatalf("start socket broker: %v", err)
	}
	return b
}

func (b *broker) stop() {
	unix.Close(b.conn)
	_ = b.cmd.Wait()
}

// socket returns a new non-blocking socket.
func (b *broker) socket(domain, typ, proto int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ask [12]byte
	for i, v := range []int{domain, typ, proto} {
		binary.NativeEndian.PutUint32(ask[4*i:], uint32(v))
	}
	if err := unix.Send(b.conn, ask[:], 0); err != nil {
		return -1, fmt.Errorf("socket broker: %w", err)
	}
	var answer [4]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := unix.Recvmsg(b.conn, answer[:], rights, unix.MSG_CMSG_CLOEXEC)
	if err == nil {
		n, err = unix.Read(b.conn, answer[:])
	}
	runtime.KeepAlive(b)
	if err != nil || n != len(answer) {
		return -1, fmt.Errorf("socket broker: no answer: %v", err)
	}
	if errno := unix.Errno(binary.NativeEndian.Uint32(answer[:])); errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	msgs, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("socket broker: no socket: %v", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("socket broker: no socket: %v", err)
	}
	return fds[0], nil
}
