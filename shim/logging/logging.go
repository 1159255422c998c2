// Package logging is where the log of a process that serves containerd goes.
package logging

import (
	"io"
	"log/slog"
	"syscall"
)

// Start sends slog's log to Stderr from now on. Debugging also logs every call.
func Start(debugging bool) {
	level := slog.LevelInfo
	if debugging {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(Stderr, &slog.HandlerOptions{Level: level})))
}

// Discard drops all that is logged from now on.
func Discard() { slog.SetDefault(slog.New(slog.DiscardHandler)) }

// Stderr is this process's stderr, and never blocks: what nobody reads is dropped, for it must not hold up a pod.
var Stderr io.Writer = writer(syscall.Stderr)

// writer is a descriptor that does not block.
type writer int

func (w writer) Write(p []byte) (int, error) {
	_, _ = syscall.Write(int(w), p) // a full fifo drops the line
	return len(p), nil
}
