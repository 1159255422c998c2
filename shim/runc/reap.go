package runc

import (
	"log/slog"
	"os"
	"os/signal"

	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	"golang.org/x/sys/unix"
)

// reap collects every child that ends, for containerd's reaper, which tells those that wait; the containers' processes are
// among them. The function that it returns ends it.
func reap() (end func()) {
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
