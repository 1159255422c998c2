// Package event brings a pod's task events to containerd, in order, also across a restart of containerd.
package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/taskpb"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

const (
	// capacity bounds the events that wait for a containerd that is away; the oldest go first, since
	// containerd asks for the state of every task when it comes back.
	capacity = 4096
	// sendTimeout bounds one attempt to send.
	sendTimeout = 5 * time.Second
	// maxPause is the longest pause between attempts.
	maxPause = time.Second
	// maxRefusals is how often containerd may answer an event with an error before the event is dropped, so that one that
	// it does not like does not hold up all others. While it cannot be reached there is no bound.
	maxRefusals = 5
)

// ErrClosed is what Send returns after Close.
var ErrClosed = errors.New("event queue is closed")

// Queue sends events one after the other, each until containerd has acknowledged it: one whose acknowledgement is lost
// arrives twice. Its methods are safe for concurrent use.
type Queue struct {
	address, namespace string

	mu      sync.Mutex
	waiting []*taskpb.Envelope // guarded by mu
	dropped int                // guarded by mu: how many were, since the last delivery
	closed  bool               // guarded by mu
	wake    chan struct{}      // has room for one: there is something to do
	done    chan struct{}      // closed when the sender ended
	cancel  context.CancelFunc

	client *ttrpc.Client // the sender's own
}

// New returns a queue that sends to containerd's ttrpc socket at address, in namespace. Close ends it.
func New(address, namespace string) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{address: address, namespace: namespace, wake: make(chan struct{}, 1), done: make(chan struct{}), cancel: cancel}
	go q.run(ctx)
	return q
}

// Send queues one event under topic, for example "/tasks/exit". It does not wait.
func (q *Queue) Send(topic string, event *taskpb.Any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return fmt.Errorf("send event %s: %w", topic, ErrClosed)
	}
	if len(q.waiting) == capacity {
		if q.dropped == 0 {
			slog.Warn("dropping the oldest events: containerd takes none", "waiting", capacity)
		}
		q.dropped++
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, &taskpb.Envelope{Timestamp: taskpb.Time(time.Now()), Namespace: q.namespace, Topic: topic, Event: event})
	q.signal()
	return nil
}

// signal wakes the sender. q.mu is held.
func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close sends what waits, until ctx ends, and ends the queue. Its error says how many events were not delivered.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.signal()
	q.mu.Unlock()
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	<-q.done
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.waiting); n > 0 {
		return fmt.Errorf("close event queue: %d events were not delivered: %w", n, context.Cause(ctx))
	}
	return nil
}

// run sends until the queue is closed and empty, or ctx ends.
func (q *Queue) run(ctx context.Context) {
	defer close(q.done)
	defer q.disconnect()
	pause, refusals := time.Duration(0), 0
	for {
		first, closed := q.first()
		switch {
		case first == nil && closed:
			return
		case first == nil:
			<-q.wake
			continue
		}
		err := q.forward(ctx, first)
		if ctx.Err() != nil && err != nil {
			return
		}
		if refused(err) {
			if refusals++; refusals == maxRefusals || final(err) {
				slog.Error("containerd refused an event", "topic", first.Topic, "error", err)
				err = nil
			}
		}
		if err == nil {
			pause, refusals = 0, 0
			q.drop(first)
			continue
		}
		q.disconnect()
		pause = min(max(2*pause, 10*time.Millisecond), maxPause)
		slog.Debug("event waits for containerd", "topic", first.Topic, "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// refused tells whether err is containerd's answer, and not the lack of one.
func refused(err error) bool {
	var answer *status.Error
	return errors.As(err, &answer) && answer.Code != status.Unavailable && answer.Code != status.DeadlineExceeded && answer.Code != status.Canceled
}

// final tells whether containerd would refuse the event again.
func final(err error) bool {
	return errdefs.IsInvalidArgument(err) || errdefs.IsNotImplemented(err)
}

func (q *Queue) first() (*taskpb.Envelope, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil, q.closed
	}
	return q.waiting[0], q.closed
}

// drop removes e if Send has not done so already.
func (q *Queue) drop(e *taskpb.Envelope) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropped > 0 {
		slog.Warn("events were dropped while containerd took none", "count", q.dropped)
		q.dropped = 0
	}
	if len(q.waiting) > 0 && q.waiting[0] == e {
		q.waiting = q.waiting[1:]
	}
}

func (q *Queue) forward(ctx context.Context, e *taskpb.Envelope) error {
	if q.client == nil {
		conn, err := (&net.Dialer{Timeout: sendTimeout}).DialContext(ctx, "unix", q.address)
		if err != nil {
			return err
		}
		q.client = ttrpc.NewClient(conn)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return q.client.Call(ctx, "containerd.services.events.ttrpc.v1.Events", "Forward", &taskpb.ForwardRequest{Envelope: e}, new(taskpb.Empty))
}

func (q *Queue) disconnect() {
	if q.client != nil {
		_ = q.client.Close() // what came of the connection shows in the next call
		q.client = nil
	}
}
