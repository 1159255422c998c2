package redirect

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Listen makes a listener in a network namespace that can take redirected connections: port 4140 of "tcp4" on
// 127.0.0.1:4140, for example. A namespace of nil is the caller's.
func Listen(ctx context.Context, netns *os.File, network, address string) (*net.TCPListener, error) {
	var l *net.TCPListener
	err := within(netns, func() error {
		// Go's listeners speak Multipath TCP where the kernel does, and no socket map takes those.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		made, err := lc.Listen(ctx, network, address)
		if err != nil {
			return err
		}
		l = made.(*net.TCPListener)
		return nil
	})
	return l, err
}

// within calls f on a thread that is in the network namespace.
func within(netns *os.File, f func() error) error {
	if netns == nil {
		return f()
	}
	failed := make(chan error)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and nobody has to bring it back.
		runtime.LockOSThread()
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter network namespace %s: %w", netns.Name(), err)
			return
		}
		failed <- f()
	}()
	return <-failed
}

func netnsCookie(netns *os.File) (cookie uint64, err error) {
	err = within(netns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket in network namespace: %w", err)
		}
		defer unix.Close(fd)
		if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
			return fmt.Errorf("read network namespace cookie: %w (needs Linux 5.14)", err)
		}
		return nil
	})
	return cookie, err
}
