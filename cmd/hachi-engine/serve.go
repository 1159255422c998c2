package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/hachi-run/hachi/runtime/guest"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/toolbox"
	"github.com/hachi-run/hachi/runtime/wire"
)

// ttyGrace is how long open connections may go on after a Ctrl-C at the guest's own terminal. Another Ctrl-C ends them.
const ttyGrace = 10_000 // ms

// settle is how long a guest runs before memory is tidied up behind its start.
const settle = time.Second

// untidy is how much memory an engine has had when a collection is worth it, in KiB.
const untidy = 64 << 10

// processors are enough for a guest, which is one thread, and for the rest: a guest that computes cannot keep a stop from
// being heard, on a machine with one processor too. More would cost memory each.
const processors = 2

// orphaned is the exit code of an engine that has lost its shim.
const orphaned = 128 + int(syscall.SIGKILL)

// serve runs the one guest that the control socket describes, and writes its profile if that is not nil.
func serve(ctx context.Context, profile *os.File) int {
	_ = syscall.SetNonblock(wire.ControlFD, true) // so that waiting for the shim costs no thread
	control := &socket{file: os.NewFile(wire.ControlFD, "control")}
	config, files, err := wire.Receive(control.file)
	if errors.Is(err, io.EOF) {
		return orphaned // nobody has a guest for it after all
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hachi-engine: no configuration on descriptor 3 (the shim starts the engine; for yourself use hachi run)")
		return 64
	}
	// With privileges, for ports below 1024.
	listeners, err := guest.Listen(ctx, config.Listeners)
	if err != nil {
		return control.refuse(wire.Failed{Error: err.Error(), Listen: true})
	}
	if files.Root != nil {
		// The jail closes the number that it is given, which must not be a file's.
		fd, err := syscall.Dup(int(files.Root.Fd()))
		files.Root.Close()
		if err != nil {
			return control.fail(fmt.Errorf("enter root: %w", err))
		}
		config.Jail.Root = &jail.Root{FD: fd}
	}
	if err := jail.Enter(config.Jail); err != nil {
		return control.fail(err)
	}
	if config.Module == nil {
		return control.tool(config)
	}
	g, err := guest.Load(ctx, guest.Options{Config: config, Files: files, Listeners: listeners, Profile: profile})
	if err != nil {
		return control.fail(err)
	}
	return control.supervise(ctx, g)
}

// socket is the engine's end of the control socket.
type socket struct {
	mu    sync.Mutex
	file  *os.File
	ended bool // guarded by mu: the last word was said
}

// send tells the shim; when it cannot, the shim is gone and the engine with it. After Exit or Failed nothing is sent.
func (s *socket) send(m *wire.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = m.Exit != nil || m.Failed != nil
	if err := wire.Write(s.file, m); err != nil {
		os.Exit(orphaned)
	}
}

func (s *socket) fail(err error) int { return s.refuse(wire.Failed{Error: err.Error()}) }

func (s *socket) refuse(why wire.Failed) int {
	s.send(&wire.Message{Failed: &why})
	return 1
}

// supervise runs g between what the shim asks for and how the guest ends.
func (s *socket) supervise(ctx context.Context, g *guest.Guest) int {
	begin := make(chan struct{})
	go s.obey(begin, g.Stop, g.SetMemory)
	s.send(&wire.Message{Ready: &wire.Ready{}})
	runtime.GOMAXPROCS(processors)
	// Until now a signal's default action did the same.
	go interrupt(g, notify())
	g.Prepare(ctx) // containerd takes its time until it says Start
	var exit wire.Exit
	select {
	case <-begin:
		tidy()
		exit = g.Run(ctx)
	case <-g.Stopped():
		exit.Code = g.Signal()
	}
	s.send(&wire.Message{Exit: &exit})
	return int(exit.Code & 0xff)
}

// tool runs a toolbox command in the guest's place; a stop ends it at once.
func (s *socket) tool(config *wire.Config) int {
	begin := make(chan struct{})
	go s.obey(begin, func(stop wire.Stop) { os.Exit(128 + stop.Signal) }, func(uint64) {})
	s.send(&wire.Message{Ready: &wire.Ready{}})
	<-begin
	return toolbox.Run(config.Args, config.Env, config.Cwd, os.Stdin, os.Stdout, os.Stderr)
}

// obey does what the shim says until it says no more; then the pod is over.
func (s *socket) obey(begin chan<- struct{}, stop func(wire.Stop), limit func(uint64)) {
	started := false
	for {
		m, err := wire.Read(s.file, wire.MaxFrame)
		if err != nil {
			os.Exit(orphaned)
		}
		switch {
		case m.Start != nil && !started:
			started = true
			close(begin)
		case m.Stop != nil:
			stop(*m.Stop)
		case m.Limit != nil:
			limit(m.Limit.Memory)
			s.send(&wire.Message{Limited: &wire.Limited{}})
		}
	}
}

// notify catches the signals of the guest's terminal and those of an ordinary kill(1).
func notify() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return signals
}

// interrupt turns signals into a stop.
func interrupt(g *guest.Guest, signals <-chan os.Signal) {
	grace := int64(ttyGrace)
	for sig := range signals {
		g.Stop(wire.Stop{Signal: int(sig.(syscall.Signal)), Grace: grace})
		grace = 0
	}
}

// tidy gives back what loading took, if that was much and the guest has shown that it stays: its module was compiled in
// place. After a load from an artefact a collection, and even asking Go for its heap's size, would take more than it gives.
func tidy() {
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) != nil || use.Maxrss < untidy {
		return
	}
	time.AfterFunc(settle, debug.FreeOSMemory)
}
