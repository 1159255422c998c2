package server

import (
	"context"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/ttrpc"

	"github.com/hachi-run/hachi/shim/task"
)

// trimDelay is how long after the last call that built something up the heap is given back. A pod's start comes in
// a burst of calls, and most pods are then idle for hours.
const trimDelay = time.Second

// trimmer gives memory back to the kernel after bursts of work: an idle server then costs 1 MB less.
type trimmer struct{ timer *time.Timer }

func newTrimmer() *trimmer {
	t := &trimmer{time.AfterFunc(trimDelay, debug.FreeOSMemory)}
	return t
}

// intercept is task.Intercept, and notes the calls that leave garbage behind. Those that containerd makes every
// second do not count, or the heap would never be given back.
func (t *trimmer) intercept(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, call ttrpc.Method) (any, error) {
	for _, name := range []string{"/Create", "/Start", "/Exec", "/Delete"} {
		if strings.HasSuffix(info.FullMethod, name) {
			t.timer.Reset(trimDelay)
		}
	}
	return task.Intercept(ctx, decode, info, call)
}

func (t *trimmer) close() { t.timer.Stop() }
