package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// answerTime bounds a question to containerd when the caller sets no deadline.
	answerTime = 10 * time.Second
	// idleTime is when an unused connection gives its goroutines and buffers back; a pod asks when its
	// containers start, and then for days not at all.
	idleTime = 10 * time.Second
	// maxReply is containerd's own limit for a message.
	maxReply = 16 << 20
)

var errClosed = errors.New("source is closed")

// connect returns the one connection; it dials when the first call is made on it.
func (s *Source) connect() (*grpc.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.conn != nil {
		return s.conn, nil
	}
	path := strings.TrimPrefix(s.Address, "unix://")
	conn, err := grpc.NewClient("passthrough:///containerd",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}),
		grpc.WithAuthority("localhost"),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(idleTime),
		// containerd restarts in less than a second; the default would wait that long after one miss.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxReply)),
	)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

// Warm begins to connect and does not wait for it, so that the first Resolve need not: that saves half
// a millisecond of a pod's start. Without it Resolve connects by itself.
func (s *Source) Warm() error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	conn.Connect()
	return nil
}

// ask makes calls to containerd. A connection that broke under a call, as a restart of containerd
// breaks it, is worth another try: all calls here only read.
func (s *Source) ask(ctx context.Context, calls func(context.Context, *grpc.ClientConn) error) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", s.Namespace)
	for try := 0; ; try++ {
		err := calls(ctx, conn)
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
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
