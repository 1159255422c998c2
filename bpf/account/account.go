// Package account counts, in the kernel, what the sockets of a cgroup send, receive, open and lose.
package account

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/hachi-run/hachi/bpf/pin"
)

// Set is what pin.Layout.Load loads before Open works. It needs no BTF of the kernel.
var Set = pin.Set{
	Name:   "account",
	Object: _AccountBytes,
	Spec:   loadAccount,
	Hooks: []pin.Hook{
		{Name: "account", Program: accountProgAccountSockops, Attach: ebpf.AttachCGroupSockOps},
		{Name: "egress", Program: accountProgAccountEgress, Attach: ebpf.AttachCGroupInetEgress},
		{Name: "ingress", Program: accountProgAccountIngress, Attach: ebpf.AttachCGroupInetIngress},
	},
}

// refusedMap is where redirection counts the connections it denies: bpf/include/refused.h.
const refusedMap = "hachi_refused"

// Account reads and attaches. It may be used concurrently.
type Account struct {
	layout         *pin.Layout
	counters, pods *ebpf.Map

	mu       sync.Mutex
	programs []*ebpf.Program // guarded by mu; one per hook, opened by the first Attach
	refused  *ebpf.Map       // guarded by mu; nil until redirection is loaded
}

// Open finds what is pinned; fs.ErrNotExist if this build was never loaded.
func Open(l *pin.Layout) (_ *Account, err error) {
	a := &Account{layout: l}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if a.counters, err = ebpf.LoadPinnedMap(l.Map(accountMapHachiCounters), nil); err != nil {
		return nil, fmt.Errorf("open accounting: %w", err)
	}
	if a.pods, err = ebpf.LoadPinnedMap(l.Map(accountMapHachiPod), nil); err != nil {
		return nil, fmt.Errorf("open accounting: %w", err)
	}
	return a, nil
}

// Close gives the descriptors back. What is attached stays attached.
func (a *Account) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := errors.Join(a.counters.Close(), a.pods.Close(), a.refused.Close())
	for _, p := range a.programs {
		err = errors.Join(err, p.Close())
	}
	a.programs = nil
	return err
}

// Attach counts from now on what the cgroup does, or goes on where an earlier owner of its links stopped.
func (a *Account) Attach(ctx context.Context, id uint64, cgroup *os.File) error {
	programs, err := a.open()
	if err != nil {
		return err
	}
	return a.layout.Attach(ctx, id, cgroup, Set.Hooks, programs, func(bool) error {
		if err := a.pods.Update(id, accountPod{Id: id}, ebpf.UpdateExist); err != nil {
			return fmt.Errorf("attach accounting: %s: set id: %w", cgroup.Name(), err)
		}
		return nil
	})
}

func (a *Account) open() ([]*ebpf.Program, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs != nil {
		return a.programs, nil
	}
	var opened []*ebpf.Program
	for _, h := range Set.Hooks {
		p, err := a.layout.Program(Set, h.Program)
		if err != nil {
			for _, p := range opened {
				p.Close()
			}
			return nil, err
		}
		opened = append(opened, p)
	}
	a.programs = opened
	return opened, nil
}

// Read returns the counters of an attached cgroup; fs.ErrNotExist if it is not attached or was removed.
func (a *Account) Read(id uint64) (Counters, error) {
	var perCPU []accountCounters
	if err := a.counters.Lookup(id, &perCPU); err != nil {
		return Counters{}, fmt.Errorf("read counters: cgroup %d: %w", id, notExist(err))
	}
	c := sum(perCPU)
	var err error
	c.Refused, err = a.readRefused(id)
	return c, err
}

// Detach ends the counting and returns the last reading. It must come before the cgroup is removed, for its counters go
// with it. fs.ErrNotExist if the cgroup was not attached.
func (a *Account) Detach(ctx context.Context, id uint64) (last Counters, err error) {
	err = a.layout.Detach(ctx, id, Set.Hooks, func() error {
		var err error
		if last, err = a.Read(id); err != nil {
			return err
		}
		// The kernel keeps the counters as long as the cgroup; who attaches again begins anew.
		zero := make([]accountCounters, ebpf.MustPossibleCPU())
		err = a.counters.Update(id, zero, ebpf.UpdateExist)
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.refused != nil {
			if derr := a.refused.Delete(id); !errors.Is(derr, ebpf.ErrKeyNotExist) {
				err = errors.Join(err, derr)
			}
		}
		return err
	})
	return last, err
}

func (a *Account) readRefused(id uint64) (n uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == nil {
		a.refused, err = ebpf.LoadPinnedMap(a.layout.Map(refusedMap), nil)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read refusals: %w", err)
		}
	}
	err = a.refused.Lookup(id, &n)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("read refusals: cgroup %d: %w", id, err)
	}
	return n, nil
}

func notExist(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return fs.ErrNotExist
	}
	return err
}

func sum(perCPU []accountCounters) (c Counters) {
	var closed uint64
	for i := range perCPU {
		p := &perCPU[i]
		for family := range c.By {
			for protocol := range c.By[family] {
				t, rx, tx := &c.By[family][protocol], &p.Rx[family][protocol], &p.Tx[family][protocol]
				t.RxBytes += rx.Bytes
				t.RxPackets += rx.Packets
				t.TxBytes += tx.Bytes
				t.TxPackets += tx.Packets
			}
		}
		c.Opened += p.Opened
		c.Accepted += p.Accepted
		c.Failed += p.Failed
		c.Retransmits += p.Retransmits
		closed += p.Closed
		for b, n := range p.Rtt {
			c.RTT[b] += n
		}
	}
	add := func(a, b uint64) uint64 { return a + b }
	for _, family := range c.By {
		for _, t := range family {
			c.Traffic = c.Traffic.merge(t, add)
		}
	}
	// The CPUs are read one after the other: a connection may be seen to close on one before it opens on another.
	if established := c.Opened + c.Accepted; established > closed {
		c.Open = established - closed
	}
	return c
}
