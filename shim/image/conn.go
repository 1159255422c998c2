package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// answerTime bounds a question to containerd when the caller sets no deadline.
	answerTime = 10 * time.Second
	// redialTime is between two attempts to connect; containerd restarts in less than a second.
	redialTime = 50 * time.Millisecond
	// receiveWindow is how much of a blob containerd may send before it was read here. The default is 4 MiB.
	receiveWindow = 256 << 10
	// idleTime is when an unused connection gives its goroutine and buffers back; a pod asks when its
	// containers start, and then for days not at all.
	idleTime = 10 * time.Second
)

var errClosed = errors.New("source is closed")

// connect returns the one connection, with room reserved for one call, and waits for a containerd that is away.
func (s *Source) connect(ctx context.Context) (*http.ClientConn, error) {
	for {
		conn, err := s.dial(ctx)
		if err == nil || errors.Is(err, errClosed) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, status.Error(status.FromContextError(ctx.Err()).Code(), err.Error())
		case <-time.After(redialTime):
		}
	}
}

// dial connects if there is no connection, or one that takes no more calls. Neither a unix socket nor HTTP/2 makes it
// wait for containerd's answer.
func (s *Source) dial(ctx context.Context) (*http.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if conn := s.conn.Load(); conn != nil && conn.Reserve() == nil {
		return conn, nil
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(s.Address, "unix://"))
		},
		Protocols:          new(http.Protocols),
		HTTP2:              &http.HTTP2Config{MaxReceiveBufferPerStream: receiveWindow},
		IdleConnTimeout:    cmp.Or(s.idle, idleTime),
		DisableCompression: true,
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	conn, err := t.NewClientConn(ctx, "http", "localhost:80")
	if err != nil {
		return nil, err
	}
	s.conn.Store(conn)
	conn.SetStateHook(func(c *http.ClientConn) {
		if c.Err() != nil {
			s.conn.CompareAndSwap(c, nil)
		}
	})
	return conn, conn.Reserve()
}

// Warm connects, and does not wait for containerd's part of it, so that the first Resolve need not: that saves a tenth
// of a millisecond of it. Without it, or after its error, Resolve connects by itself.
func (s *Source) Warm() error {
	conn, err := s.dial(context.Background())
	if err != nil {
		return err
	}
	conn.Release()
	return nil
}

// ask makes calls to containerd. A connection that broke under a call, as a restart of containerd
// breaks it, is worth another try: all calls here only read.
func (s *Source) ask(ctx context.Context, calls func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for try := 0; ; try++ {
		err := calls(ctx)
		if _, remote := status.FromError(err); !remote || err == nil {
			return err
		}
		switch code := status.Code(err); {
		case code == codes.Unavailable && try < 2 && ctx.Err() == nil:
			continue
		case code == codes.Unavailable || code == codes.DeadlineExceeded:
			return fmt.Errorf("containerd at %s: %w (is containerd running?)", s.Address, errgrpc.ToNative(err))
		}
		return errgrpc.ToNative(err)
	}
}

// Close releases the connection; a call in flight fails. It is idempotent. Modules of images that the
// Source resolved stay usable as long as containerd's content directory could be read directly.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	conn := s.conn.Swap(nil)
	s.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}
