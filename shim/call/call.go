// Package call is what happens around every call that one of our processes serves to another.
package call

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
)

// Guard makes a call of a method, logs and times it, and turns a panic into an error: the process holds a whole pod.
func Guard[R any](method string, call func() (R, error)) (reply R, err error) {
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in a call", "method", method, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s: internal error: %v: %w", method, p, errdefs.ErrInternal)
		}
		slog.Debug("call", "method", method, "took", time.Since(begin), "error", err)
	}()
	return call()
}
