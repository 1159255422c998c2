// Package meter keeps account of one pod's containers: it has their traffic counted by cgroup and writes them into the
// node's ledger.
//
// A pod runs without: whatever this machine lacks for counting is said once in the log.
package meter

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/shim/ledger"
)

const (
	// collectEvery is how often a node is searched for the accounts of killed shims, by whichever pod starts next.
	collectEvery = time.Minute
	// collectDelay keeps the search out of a pod's start.
	collectDelay = 2 * time.Second
)

// patience is how long a container waits for its account to begin. It takes a millisecond, except that the first
// container after a boot waits for the programs to be loaded. What takes longer goes on beside the container.
const patience = 3 * time.Second

// Options say where accounts are kept; the zero value is what a node has.
type Options struct {
	// Namespace is containerd's.
	Namespace string
	// Ledger is the ledger's directory; empty is ledger.Dir.
	Ledger string
	// BPF says where BPF's programs are pinned and who loads them.
	BPF observe.Options
	// Collect runs ledger.Collect for the node; nil leaves that to others.
	Collect func(context.Context) error
}

// Meter is the account keeper of one pod. Its methods are safe for concurrent use.
type Meter struct {
	o     Options
	book  *ledger.Ledger
	delay time.Duration
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	work  sync.WaitGroup // what goes on in the background

	opening  sync.Once
	opened   chan struct{}     // closed when observer is set for good
	observer *observe.Observer // nil where nothing can be counted
}

// New opens the ledger and nothing else. Close the meter when all its accounts have ended.
func New(o Options) (*Meter, error) {
	if o.Ledger == "" {
		o.Ledger = ledger.Dir
	}
	book, err := ledger.Open(o.Ledger)
	if err != nil {
		return nil, err
	}
	m := &Meter{o: o, book: book, delay: collectDelay, opened: make(chan struct{})}
	m.ctx, m.end = context.WithCancel(context.Background())
	return m, nil
}

// Warm opens the pinned programs in the background, before the first container needs them. Some time later it looks
// after what killed shims have left on the node.
func (m *Meter) Warm() {
	m.open()
	if m.o.Collect != nil && m.book.Due(collectEvery) {
		m.work.Go(m.collect)
	}
}

// open has the pinned programs opened in the background, once. What it finds lacking then will be lacking later.
func (m *Meter) open() {
	m.opening.Do(func() {
		m.work.Go(func() {
			defer close(m.opened)
			o, err := observe.Open(m.ctx, m.o.BPF)
			if err != nil {
				slog.Warn("traffic of this pod is not counted", "error", err)
				return
			}
			m.observer = o
		})
	})
}

func (m *Meter) collect() {
	select {
	case <-m.ctx.Done():
		return
	case <-time.After(m.delay):
	}
	if !m.book.Due(collectEvery) {
		return
	}
	if err := m.o.Collect(m.ctx); err != nil && m.ctx.Err() == nil {
		slog.Warn("cannot collect the accounts of killed shims", "error", err)
	}
}

// Attach begins the account of a container whose cgroup has just been made, in the background; see Account.Ready.
// unified is its directory in the cgroup2 tree, or empty, and dirs are all its directories.
func (m *Meter) Attach(id string, annotations map[string]string, unified string, dirs []string) *Account {
	a := &Account{m: m, id: id, begun: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancel(m.ctx)
	m.open()
	m.work.Go(func() {
		defer close(a.begun)
		if err := a.begin(annotations, unified, dirs); err != nil {
			slog.Warn("container is not accounted for", "id", id, "error", err)
		}
	})
	return a
}

// Close waits for what Warm and Attach began. What is counted goes on being counted.
func (m *Meter) Close() error {
	m.end()
	m.work.Wait()
	if m.observer == nil {
		return nil
	}
	err := m.observer.Close()
	m.observer = nil
	if err != nil {
		return fmt.Errorf("close meter: %w", err)
	}
	return nil
}
