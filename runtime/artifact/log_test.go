package artifact

import (
	"bytes"
	"log/slog"
	"testing"
)

// noWarnings returns a log that fails the test when something is written to it.
func noWarnings(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(failing{tb}, nil))
}

type failing struct{ tb testing.TB }

func (f failing) Write(p []byte) (int, error) {
	f.tb.Errorf("logged: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// recorded keeps what is logged.
type recorded struct{ bytes.Buffer }

func (r *recorded) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }
