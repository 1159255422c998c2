// Package server is the process hachi-shim: it wires a pod's parts together and serves them to containerd.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/runtime/artifact/store"
	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/event"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/linux"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/reap"
	"github.com/hachi-run/hachi/shim/sandbox"
	"github.com/hachi-run/hachi/shim/task"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

const (
	// artifacts is where compiled modules are kept.
	artifacts = "/var/lib/hachi/artifacts"
	// flushTimeout bounds the wait for a containerd that does not take its last events.
	flushTimeout = 5 * time.Second
	// drainTimeout bounds the wait for calls that are under way, such as Wait.
	drainTimeout = 500 * time.Millisecond
	// replyDelay lets the last answers reach containerd before their connections close.
	replyDelay = 20 * time.Millisecond
)

// Options say which pod is served.
type Options struct {
	// ID is the pod's, or a lone container's own.
	ID string
	// Namespace is containerd's.
	Namespace string
	// Address is containerd's gRPC socket, and TTRPCAddress the one that takes events.
	Address, TTRPCAddress string
	// Debug has all programs of the pod log every call.
	Debug bool
	// Listener is the pod's socket; Run closes it and removes its file.
	Listener net.Listener
}

// Run serves the pod until containerd shuts it down, a SIGTERM comes or ctx ends. Whatever of the pod is still there
// then is ended and removed.
func Run(ctx context.Context, o Options) error {
	bin, err := Sibling("hachi-engine")
	if err != nil {
		return err
	}
	ctx, end := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer end()
	signal.Ignore(unix.SIGPIPE)
	reaper := reap.New()
	defer reaper.Close()

	manager, err := cgroup.Open(cgroup.Options{Thread: jail.StripThread})
	if err != nil {
		return err
	}
	defer manager.Close()
	manager.Warm()
	groups := groups{manager, reaper}
	st, err := store.Open(store.Options{Dir: artifacts, Compile: engine.Compiler(bin, groups.start)})
	if err != nil {
		return err
	}
	events := event.New(o.TTRPCAddress, o.Namespace)
	images := &image.Source{Address: o.Address, Namespace: o.Namespace}
	defer images.Close()
	if err := images.Warm(); err != nil {
		slog.Warn("cannot connect to containerd ahead of time", "error", err)
	}
	accounts, err := openMeter(o.Namespace, reaper)
	if err != nil {
		return err
	}
	defer accounts.Close()
	accounts.Warm()
	steers := &steering{namespace: o.Namespace, cgroups: manager}
	defer steers.Close()
	p := pod.New(pod.Options{Engine: bin, Namespace: o.Namespace, Artifacts: st, Groups: groups, Observer: wasmObserver{accounts}, Steer: steers.wasm})
	box := sandbox.New()
	// The name goes at once, so that nobody finds a server that is about to end. It goes once, for the next server of
	// the same pod may have it meanwhile.
	hide := sync.OnceFunc(func() { _ = os.Remove(o.Listener.Addr().String()) })
	bow := func() {
		hide()
		end()
	}
	pids := &sandbox.PIDs{Binary: bin, Start: groups.start}
	defer pids.Close()
	containers := &linuxContainers{hooks: linux.Hooks{Observer: linuxObserver{accounts, manager}, Steer: steers.linux}}
	router := task.New(task.Options{
		Pod: p, Images: images, Events: events, Sandbox: box, PIDs: pids, Namespace: o.Namespace, Shutdown: bow,
		Linux: func() (task.Service, error) { return containers.open(o, reaper, end) },
	})
	trim := newTrimmer()
	defer trim.close()
	s := ttrpc.NewServer(trim.intercept)
	router.Register(s)
	task.NewSandbox(box, groups.usage, bow).Register(s)
	served := make(chan error, 1)
	// Calls outlive ctx: who waits for a container's exit is told it.
	go func() { served <- s.Serve(context.WithoutCancel(ctx), o.Listener) }()
	slog.Info("serving pod", "id", o.ID, "namespace", o.Namespace, "address", o.Listener.Addr().String())
	warm()

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	hide()
	// In order: no containers, no calls, no events left unsent.
	router.Close()
	box.Close()
	s.Drain(drainTimeout, replyDelay)
	_ = s.Close() // its errors are of what is closed already
	flush, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	return errors.Join(err, containers.close(flush), events.Close(flush))
}

// warm does what the first container would do first, while containerd is on its way to ask for it.
func warm() {
	// Before it starts its first process Go tries out with another whether the kernel has pidfds.
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Release()
	}
	// Decoding makes a table of each type that it meets. The launcher's directory is the first container's bundle.
	_, _ = bundle.Open(".")
}

// Sibling is one of hachi's programs, beside this one.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	bin := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("find %s beside %s: %w (install all programs of hachi into one directory)", name, self, err)
	}
	return bin, nil
}
