package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

// stay is what a DaemonSet's pod does when its work is done: it goes on to look, and says how it is. The zero value does
// not stay.
type stay struct {
	// listen is the address of the probes; empty means not to stay.
	listen string
	// every is how often the node is looked at.
	every time.Duration

	mu    sync.Mutex
	state error // guarded by mu
}

var errWorking = errors.New("at work")

func (s *stay) register(set *pflag.FlagSet) {
	set.StringVar(&s.listen, "stay", "", "do not end; answer /healthz and /readyz on this address and look after the node (for a DaemonSet)")
	set.DurationVar(&s.every, "check", time.Minute, "with --stay, how often the node is looked at")
}

// run does the work once. A failure ends it: who started it tries again, less and less often. After that it stays, if it
// should, until ctx ends; check, if there is one, is called from time to time.
func (s *stay) run(ctx context.Context, log *slog.Logger, once, check func(context.Context) error) error {
	if s.listen == "" {
		return once(ctx)
	}
	if s.every <= 0 {
		return usagef("--check %v: want more than nothing", s.every)
	}
	s.set(errWorking)
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("serve probes: %w", err)
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			log.Warn("probes were not served to the end", "error", err)
		}
	}()
	if err := once(ctx); err != nil {
		return err
	}
	s.set(nil)
	log.Info("done; staying", "address", l.Addr().String())
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			served <- err
			return fmt.Errorf("serve probes: %w", err)
		case <-tick.C:
		}
		if check == nil {
			continue
		}
		err := check(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("this node is not as it should be", "error", err)
		}
		s.set(err)
	}
}

func (s *stay) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = err
}

func (s *stay) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		err := s.state
		s.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
