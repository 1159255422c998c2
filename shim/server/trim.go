package server

import (
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hachi-run/hachi/shim/call"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

const (
	// trimDelay is how long after the last call that built something up the heap is given back. A pod's start comes in
	// a burst of calls, and most pods are then idle for hours.
	trimDelay = time.Second
	// idlePercent is the heap's growth between collections when nothing much happens: small, for a node has a hundred
	// of these servers.
	idlePercent = 40
	// burstLimit is where a burst is collected after all, in bytes; one container's start makes 2 MB of garbage.
	burstLimit = 24 << 20
)

// trimmer keeps the collector away from bursts of work, where it took a quarter of a cold start's CPU time, and gives
// memory back to the kernel after them, which makes an idle server 1 MB smaller.
//
// It never collects during a call of a burst. The collector spins until every goroutine has stopped, and one that is
// starting a process stops when that process has begun: on a node that starts many pods at once, a second later.
type trimmer struct {
	timer *time.Timer

	mu     sync.Mutex
	calls  int  // guarded by mu: of a burst, and not answered yet
	lazily bool // guarded by mu: the collector is off
}

func newTrimmer() *trimmer {
	debug.SetMemoryLimit(burstLimit)
	debug.SetGCPercent(-1)
	t := &trimmer{lazily: true}
	t.timer = time.AfterFunc(trimDelay, t.trim)
	return t
}

// intercept is call.Guard, and notes the calls that make a burst. Those that containerd makes every second are
// not among them.
func (t *trimmer) intercept(method string, do func() (ttrpc.Message, error)) (ttrpc.Message, error) {
	for _, name := range []string{"/Create", "/Start", "/Exec", "/Delete"} {
		if strings.HasSuffix(method, name) {
			t.begin()
			defer t.end()
		}
	}
	return call.Guard(method, do)
}

func (t *trimmer) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	t.timer.Stop()
	if !t.lazily {
		t.lazily = true
		debug.SetGCPercent(-1)
	}
}

func (t *trimmer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls--; t.calls == 0 {
		t.timer.Reset(trimDelay)
	}
}

func (t *trimmer) trim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls > 0 {
		return
	}
	t.lazily = false
	debug.SetGCPercent(idlePercent)
	debug.FreeOSMemory()
}

func (t *trimmer) close() { t.timer.Stop() }
