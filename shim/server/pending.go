package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/containerd/ttrpc"
)

const (
	// drainTimeout bounds the wait for calls that are under way, such as Wait.
	drainTimeout = 500 * time.Millisecond
	// replyDelay lets the last answers reach containerd before their connections close.
	replyDelay = 20 * time.Millisecond
)

// pending counts the calls that are not answered yet. The library's own count does not see a call that came while its
// connection was idle until something else happens there, and closes the connection on it.
type pending struct{ calls atomic.Int64 }

// intercept wraps what serves a call.
func (p *pending) intercept(next ttrpc.UnaryServerInterceptor) ttrpc.UnaryServerInterceptor {
	return func(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, call ttrpc.Method) (any, error) {
		p.calls.Add(1)
		defer p.calls.Add(-1)
		return next(ctx, decode, info, call)
	}
}

// drain waits until all calls are answered, or drainTimeout is over.
func (p *pending) drain() {
	for end := time.Now().Add(drainTimeout); p.calls.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(replyDelay)
}
