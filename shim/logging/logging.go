// Package logging is where the log of a process that serves containerd goes.
package logging

import (
	"io"
	"log/slog"
	"syscall"

	"github.com/containerd/log"
)

// Start sends slog's log, and that of containerd's libraries, to stderr from now on. Debugging also logs every call.
func Start(debugging bool) {
	level := slog.LevelInfo
	if debugging {
		level = slog.LevelDebug
		_ = log.SetLevel("debug") // a level that exists
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	log.L.Logger.SetOutput(stderr)
}

// Discard drops all that is logged from now on.
func Discard() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.L.Logger.SetOutput(io.Discard)
}

// writer is a descriptor that does not block. A log that nobody reads is dropped: it must never hold up a pod.
type writer int

const stderr writer = 2

func (w writer) Write(p []byte) (int, error) {
	_, _ = syscall.Write(int(w), p) // a full fifo drops the line
	return len(p), nil
}
