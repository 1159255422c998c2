package server

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hachi-run/hachi/shim/linux"
	"github.com/hachi-run/hachi/shim/reap"
	"github.com/hachi-run/hachi/shim/task"
)

// linuxContainers is the service of the pod's Linux containers, once there are some.
type linuxContainers struct {
	hooks linux.Hooks

	mu      sync.Mutex
	service *linux.Service // guarded by mu
}

// open starts the service. A service that dies ends the server, and containerd deletes what is left of the pod, as if
// the server had died.
func (l *linuxContainers) open(o Options, r *reap.Reaper, end func()) (task.Service, error) {
	bin, err := Sibling("hachi-linux")
	if err != nil {
		return nil, err
	}
	s, err := linux.New(linux.Options{
		Binary: bin, Start: r.Start, Namespace: o.Namespace, Events: o.TTRPCAddress, Debug: o.Debug, Hooks: l.hooks,
		Died: func(err error) {
			slog.Error("the service of Linux containers is gone, and the pod with it", "error", err)
			end()
		},
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.service = s
	return s, nil
}

// close ends the service if there is one.
func (l *linuxContainers) close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.service == nil {
		return nil
	}
	return l.service.Close(ctx)
}
