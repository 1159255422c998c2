// Package reap collects the children of a process that others wait for by containerd's reaper.
package reap

import (
	"log/slog"
	"os"
	"os/signal"

	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	"golang.org/x/sys/unix"
)

// Start collects every child that ends, for containerd's reaper, which tells those that wait. The function that it
// returns ends it.
func Start() (end func()) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGCHLD)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			if err := reaper.Reap(); err != nil {
				slog.Error("reap children", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
