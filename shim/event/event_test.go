package event

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	taskevents "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/shim/taskpb"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// containerd takes events as containerd does, on a real socket, and can go away and come back.
type containerd struct {
	t       *testing.T
	address string

	mu     sync.Mutex
	got    []string                 // guarded by mu: what was acknowledged, "topic id"
	calls  int                      // guarded by mu
	answer func(topic string) error // guarded by mu; nil says yes

	stop func()
}

func newContainerd(t *testing.T) *containerd {
	c := &containerd{t: t, address: filepath.Join(testenv.ShortDir(t), "s"), stop: func() {}}
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *containerd) Forward(_ context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	e := r.Envelope
	if c.answer != nil {
		if err := c.answer(e.Topic); err != nil {
			return nil, err
		}
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil || e.Namespace != "space" || time.Since(e.Timestamp.AsTime()) > time.Minute {
		c.t.Errorf("event %v: %v", e, err)
		return &emptypb.Empty{}, nil
	}
	c.got = append(c.got, e.Topic+" "+v.(*taskevents.TaskStart).ContainerID)
	return &emptypb.Empty{}, nil
}

// start serves until the function stop is called.
func (c *containerd) start() {
	c.t.Helper()
	_ = os.Remove(c.address)
	l, err := net.Listen("unix", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		c.t.Fatal(err)
	}
	events.RegisterTTRPCEventsService(s, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(context.Background(), l) }) // it ends with ErrServerClosed
	c.stop = func() {
		s.Close()
		l.Close()
		serving.Wait()
		c.stop = func() {}
	}
}

func (c *containerd) answers(f func(topic string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

func (c *containerd) received() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

func (c *containerd) await(n int) {
	c.t.Helper()
	for late := time.Now().Add(10 * time.Second); len(c.received()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			c.t.Fatalf("%d events of %d arrived", len(c.received()), n)
		}
	}
}

func started(t *testing.T, id string) *taskpb.Any {
	t.Helper()
	event, err := taskpb.Pack("containerd.events.TaskStart", &taskpb.TaskStart{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	return event
}

func send(t *testing.T, q *Queue, topic string, from, to int) (want []string) {
	t.Helper()
	for i := from; i < to; i++ {
		id := fmt.Sprint(i)
		if err := q.Send(topic, started(t, id)); err != nil {
			t.Fatal(err)
		}
		want = append(want, topic+" "+id)
	}
	return want
}

func shut(t *testing.T, q *Queue, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return q.Close(ctx)
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %d events, want %d; got %.200q", len(got), len(want), got)
	}
}

// TestOrder: events arrive once each and in order, and Close sends what waits.
func TestOrder(t *testing.T) {
	c := newContainerd(t)
	c.start()
	q := New(c.address, "space")
	want := send(t, q, "/tasks/start", 0, 500)
	if err := shut(t, q, 10*time.Second); err != nil {
		t.Error(err)
	}
	compare(t, c.received(), want)
	if err := q.Send("/tasks/start", started(t, "a")); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	if err := shut(t, q, time.Second); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestRestart: containerd goes away and comes back, more than once; nothing is lost, repeated or out of order.
func TestRestart(t *testing.T) {
	c := newContainerd(t)
	q := New(c.address, "space")
	want := send(t, q, "/tasks/start", 0, 10)
	for round := range 3 {
		time.Sleep(30 * time.Millisecond)
		c.start()
		c.await(len(want))
		want = append(want, send(t, q, "/tasks/start", 100*round+100, 100*round+110)...)
		c.await(len(want))
		c.stop()
		want = append(want, send(t, q, "/tasks/start", 100*round+110, 100*round+120)...)
	}
	c.start()
	if err := shut(t, q, 10*time.Second); err != nil {
		t.Error(err)
	}
	// An event that containerd took and could no longer acknowledge comes again.
	compare(t, slices.Compact(c.received()), want)
}

// TestConcurrentSenders: each sender's events keep their order.
func TestConcurrentSenders(t *testing.T) {
	c := newContainerd(t)
	c.start()
	q := New(c.address, "space")
	var w sync.WaitGroup
	for sender := range 8 {
		w.Go(func() {
			for i := range 50 {
				if err := q.Send(fmt.Sprint("/", sender), started(t, fmt.Sprintf("%03d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	w.Wait()
	if err := shut(t, q, 10*time.Second); err != nil {
		t.Error(err)
	}
	got := c.received()
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:2], b[:2]) })
	if len(got) != 400 || !slices.IsSorted(got) {
		t.Errorf("%d events of 400, sorted %v", len(got), slices.IsSorted(got))
	}
}

func TestCloseWithoutContainerd(t *testing.T) {
	c := newContainerd(t)
	q := New(c.address, "space")
	send(t, q, "/tasks/exit", 0, 3)
	began := time.Now()
	err := shut(t, q, 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "3 events were not delivered") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > time.Second {
		t.Errorf("close took %v", took)
	}
	if err := shut(t, New(c.address, "space"), time.Second); err != nil {
		t.Errorf("close of an empty queue: %v", err)
	}
}

// TestCloseWithDeafContainerd: one that takes connections and does not answer.
func TestCloseWithDeafContainerd(t *testing.T) {
	address := filepath.Join(testenv.ShortDir(t), "s")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := New(address, "space")
	send(t, q, "/tasks/exit", 0, 2)
	time.Sleep(20 * time.Millisecond)
	if err := shut(t, q, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "2 events") {
		t.Errorf("got %v", err)
	}
}

// TestRefusals: an event that containerd does not want does not hold up the others; one that it cannot take now is kept.
func TestRefusals(t *testing.T) {
	c := newContainerd(t)
	c.start()
	tries := map[string]int{}
	c.answers(func(topic string) error {
		tries[topic]++
		switch {
		case topic == "/bad":
			return status.Error(codes.InvalidArgument, "bad topic")
		case topic == "/odd":
			return errors.New("odd event")
		case topic == "/later" && tries[topic] < 2*maxRefusals:
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	})
	q := New(c.address, "space")
	send(t, q, "/bad", 1, 2)
	send(t, q, "/odd", 1, 2)
	want := send(t, q, "/later", 1, 2)
	want = append(want, send(t, q, "/good", 1, 2)...)
	if err := shut(t, q, 20*time.Second); err != nil {
		t.Error(err)
	}
	compare(t, c.received(), want)
	if tries["/bad"] != 1 || tries["/odd"] != maxRefusals {
		t.Errorf("tries: %v", tries)
	}
}

// TestCapacity: when too many wait, the oldest go.
func TestCapacity(t *testing.T) {
	c := newContainerd(t)
	q := New(c.address, "space")
	want := send(t, q, "/e", 0, capacity+100)[100:]
	c.start()
	if err := shut(t, q, 20*time.Second); err != nil {
		t.Error(err)
	}
	compare(t, c.received(), want)
}
