// Package reap makes this process the one that orphans fall to, as init is on a real node.
//
// Shims are daemons: whoever starts them goes away. With a subreaper above, everything that a test's
// containerd ever started stays below the test in the process tree, so a leak check misses nothing and
// sees nothing of others.
package reap

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/leak"
)

var (
	mu    sync.Mutex
	users int           // guarded by mu
	stop  chan struct{} // guarded by mu
	done  chan struct{} // guarded by mu
)

// Start adopts and reaps orphans until the returned function was called as often as Start.
//
// Only zombies outside this process's group are reaped, because os/exec waits for the others: do not start
// a command of your own with Setpgid or Setsid meanwhile.
func Start() (func(), error) {
	mu.Lock()
	defer mu.Unlock()
	if users == 0 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("become subreaper: %w", err)
		}
		stop, done = make(chan struct{}), make(chan struct{})
		go loop(stop, done)
	}
	users++
	return sync.OnceFunc(release), nil
}

func release() {
	mu.Lock()
	defer mu.Unlock()
	if users--; users == 0 {
		close(stop)
		<-done
	}
}

func loop(stop, done chan struct{}) {
	defer close(done)
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	// The kernel sends one signal for several deaths, and none for an orphan that was dead on arrival.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		zombies()
		select {
		case <-stop:
			zombies()
			return
		case <-died:
		case <-tick.C:
		}
	}
}

func zombies() {
	for _, p := range leak.Children() {
		if p.State == 'Z' && p.Group != unix.Getpgrp() {
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
		}
	}
}
