// Package wasi is WASI preview1 for wazero, with the socket extensions that guests know from WasmEdge.
//
// It replaces wazero's own module, which neither confines paths nor polls sockets. The ABI is here; what it
// gives access to is in packages of its own, which later versions of WASI can share: tree (confined
// directories), stream (files, pipes, terminals), sock, and wait (one epoll per instance).
//
// A host call that has to wait parks its goroutine and uses no thread. Whatever a guest passes, it
// gets an errno back: no pointer, size or flag makes a call panic or allocate without bound.
package wasi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/wasi/tree"
	"github.com/hachi-run/hachi/runtime/wasi/wait"
)

// Options say what a guest is given. The zero value is a guest with no arguments, no files, and
// standard streams that are closed.
type Options struct {
	// Args start with the program's name. Env entries are KEY=VALUE.
	Args, Env []string
	// Stdin, Stdout and Stderr become descriptors 0 to 2: files, pipes, terminals or sockets of any
	// mode; their open file descriptions are left as they are. nil leaves a number out.
	Stdin, Stdout, Stderr *os.File
	// Listeners are listening stream sockets, which become descriptors from 3 on, before the
	// preopens, as LISTEN_FDS says. They are made non-blocking.
	Listeners []*os.File
	// Preopens are the directories the guest finds open.
	Preopens []Preopen
	// NoNetwork refuses sockets of the guest's own and name look-ups. Listeners work as ever.
	NoNetwork bool
}

// Preopen is a directory given to the guest, or a single file.
type Preopen struct {
	// Guest is its name in the guest. In "/" absolute symbolic links mean the preopen itself, as in a
	// chroot; elsewhere they lead out and are refused.
	Guest string
	// Dir is the directory; O_PATH is enough.
	Dir *os.File
	// Only, if not empty, is the one file of Dir that the guest gets, under Guest's name.
	Only string
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
}

// System is what one guest sees of the world. Host calls of its guest exclude each other; the
// exported methods may be called from any goroutine at any time.
type System struct {
	args, env []string
	started   time.Time
	startedAt int64 // CLOCK_MONOTONIC at started, nanoseconds

	mu     sync.Mutex // held during each host call
	table  table      // guarded by mu
	poller *wait.Poller

	trees     []*tree.Tree
	rootTree  *tree.Tree // nil unless "/" is the process's own root
	noNetwork bool

	closed bool // guarded by mu

	// Guarded by mu: the caller's memory, and scratch space of single calls.
	module  api.Module
	memory  api.Memory
	buffers [][]byte
	subs    []subscription
	list    []byte

	polledAt int64 // guarded by mu: when the guest last polled, nanoseconds of monotonic; 0 if it never did

	ctx         context.Context // done after Interrupt
	cancel      context.CancelFunc
	exitCode    atomic.Uint32 // counts once ctx is done
	quietAfter  time.Duration
	draining    atomic.Bool
	connections atomic.Int64
	idle        chan struct{}
	idleOnce    sync.Once
}

// New makes a system. It duplicates every file of o: the caller keeps, and may close, its own. Close
// releases the system.
func New(o Options) (_ *System, err error) {
	s := &System{args: o.Args, env: o.Env, noNetwork: o.NoNetwork, quietAfter: quietAfter, table: newTable(), idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := checkStrings(o.Args, o.Env); err != nil {
		return nil, err
	}
	if s.poller, err = wait.New(); err != nil {
		return nil, fmt.Errorf("new wasi system: %w", err)
	}
	s.startClock()
	for i, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		if err := s.addStdio(i, f); err != nil {
			return nil, fmt.Errorf("new wasi system: descriptor %d: %w", i, err)
		}
	}
	for _, f := range o.Listeners {
		if err := s.addListener(f); err != nil {
			return nil, fmt.Errorf("new wasi system: %w", err)
		}
	}
	for _, p := range o.Preopens {
		if err := s.addPreopen(p); err != nil {
			return nil, fmt.Errorf("new wasi system: preopen %q: %w", p.Guest, err)
		}
	}
	return s, nil
}

// Close ends the guest's host calls as Interrupt does (with code 137 unless it was called before),
// waits for the one under way, and closes all that the guest had open.
func (s *System) Close() error {
	s.Interrupt(128 + 9)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for fd := range s.table.slots {
		if d := s.table.remove(uint32(fd)); d != nil {
			errs = append(errs, s.release(d))
		}
	}
	for _, t := range s.trees {
		errs = append(errs, t.Close())
	}
	if s.poller != nil {
		errs = append(errs, s.poller.Close())
	}
	s.module, s.memory, s.buffers = nil, nil, nil
	return errors.Join(errs...)
}

// release closes a descriptor that is out of the table.
func (s *System) release(d *descriptor) error {
	if d.wait != nil {
		s.poller.Remove(d.wait)
	}
	err := d.close()
	if d.connection != nil {
		s.connections.Add(-1)
		s.checkIdle()
	}
	return err
}
