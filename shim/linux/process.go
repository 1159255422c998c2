package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// process is a running hachi-linux. It ends when its connection does.
type process struct {
	cmd       *exec.Cmd
	dismissed atomic.Bool
	done      chan struct{} // closed when it has ended
	err       error         // how, after done; nil for exit code 0
}

// start starts the process with one end of a socket pair and returns the other. Its words go to this program's stderr.
func start(o Options) (*process, net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "hachi-linux"), os.NewFile(uintptr(fds[1]), "hachi-shim")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	args := []string{"-namespace", o.Namespace, "-events", o.Events}
	if o.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(o.Binary, args...)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{theirs}
	// As containerd starts its own shims of runc; the server's one processor is too few for them.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=4")
	wait, err := o.Start(cmd)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if status := wait(); status != 0 || !p.dismissed.Load() {
			p.err = fmt.Errorf("%s ended with status %d", o.Binary, status)
		}
		if !p.dismissed.Load() {
			o.Died(p.err)
		}
	}()
	return p, conn, nil
}

// dismiss says that the process may end from now on.
func (p *process) dismiss() { p.dismissed.Store(true) }

// wait waits for the end of a process that was dismissed; it is killed when ctx ends.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return errors.Join(fmt.Errorf("hachi-linux did not end: %w", context.Cause(ctx)), p.err)
}
