// Package node is a node as its operator sees it: what its containers use, what they connect to, and by which names.
//
// It reads what shims write and the kernel counts, and loads nothing.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/shim/ledger"
)

// Options say where a node keeps its books; the zero value is where hachi does.
type Options struct {
	// Ledger is the directory of the ledger; default ledger.Dir.
	Ledger string
	// Pins is where BPF's maps are pinned; default pin.DefaultRoot.
	Pins string
}

// Node reads one node. Its methods may be used concurrently.
type Node struct {
	o      Options
	ledger *ledger.Ledger
	names  names

	mu       sync.Mutex
	observer *observe.Observer // guarded by mu; nil until something is loaded
}

// Container is one that runs, and what it has used.
type Container struct {
	ledger.Tally
	// CgroupID and Started tell it from every other, Tally's ID from those that run.
	CgroupID uint64
	Started  time.Time
}

// Open opens the node's books, which need not exist: nothing has run then.
func Open(o Options) (*Node, error) {
	if o.Ledger == "" {
		o.Ledger = ledger.Dir
	}
	if o.Pins == "" {
		o.Pins = pin.DefaultRoot
	}
	l, err := ledger.Open(o.Ledger)
	if err != nil {
		return nil, explain(err)
	}
	return &Node{o: o, ledger: l, names: names{ledger: l}}, nil
}

// Close gives descriptors back.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.observer == nil {
		return nil
	}
	err := n.observer.Close()
	n.observer = nil
	return err
}

// observing returns the node's observer. It is fs.ErrNotExist when no pod has loaded the programs yet.
func (n *Node) observing() (*observe.Observer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.observer == nil {
		o, err := observe.OpenExisting(n.o.Pins)
		if err != nil {
			return nil, err
		}
		n.observer = o
	}
	return n.observer, nil
}

// Check tells why the ledger cannot be read; nil if it can.
func (n *Node) Check() error {
	_, err := n.ledger.Entries()
	return explain(err)
}

// Containers reads all containers that run. On a node where nothing has ever run there are none. What cannot be read is
// told in the error; the rest is returned all the same: when no eBPF is loaded, containers without what it counts.
func (n *Node) Containers() ([]Container, error) {
	entries, err := n.ledger.Entries()
	if len(entries) == 0 {
		return nil, explain(err)
	}
	observer, oerr := n.observing()
	if errors.Is(oerr, fs.ErrNotExist) {
		oerr = uncounted(len(entries), oerr)
	}
	errs := []error{err, oerr}
	containers := make([]Container, 0, len(entries))
	for _, e := range entries {
		tally, err := n.ledger.Read(e, observer)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended meanwhile
		case err != nil:
			errs = append(errs, err)
		default:
			containers = append(containers, Container{Tally: tally, CgroupID: e.CgroupID, Started: e.Started})
		}
	}
	return containers, explain(errors.Join(errs...))
}

// Exited are the last containers that ended, oldest first.
func (n *Node) Exited() ([]ledger.Exit, error) {
	exits, err := n.ledger.Exited()
	return exits, explain(err)
}

// Recent returns the node's newest flows, oldest first. On a node where nothing has ever run there are none.
func (n *Node) Recent() ([]Flow, error) {
	observer, err := n.observing()
	if errors.Is(err, fs.ErrNotExist) {
		entries, eerr := n.ledger.Entries()
		if len(entries) == 0 {
			return nil, explain(eerr)
		}
		err = uncounted(len(entries), err)
	}
	if err != nil {
		return nil, explain(err)
	}
	records, err := observer.Recent()
	if err != nil {
		return nil, explain(err)
	}
	n.names.refresh()
	flows := make([]Flow, len(records))
	for k, r := range records {
		flows[k] = n.names.flow(r)
	}
	return flows, nil
}

// Follow calls f with each new flow, which it may keep, until ctx ends. A node has one follower at a time.
func (n *Node) Follow(ctx context.Context, f func(*Flow)) error {
	observer, err := n.observing()
	if err != nil {
		return explain(err)
	}
	return observer.Follow(ctx, func(r flow.Record) {
		x := n.names.flow(r)
		f(&x)
	})
}

// Lost is how many flows the kernel could not hand to a follower.
func (n *Node) Lost() (uint64, error) {
	observer, err := n.observing()
	if err != nil {
		return 0, explain(err)
	}
	losses, err := observer.Lost()
	return losses.Ring + losses.Untracked, explain(err)
}

// uncounted is for a node whose pods run without eBPF.
func uncounted(containers int, err error) error {
	return fmt.Errorf("%d containers run, but their traffic is not counted: %w (hachi doctor says what is missing)", containers, err)
}

// explain adds what to do to an error that says that one may not.
func explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (run it as root)", err)
	}
	return err
}
