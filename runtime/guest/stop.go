package guest

import (
	"time"

	"github.com/hachi-run/hachi/runtime/wire"
)

// lastWords is how long an interrupted guest may go on without yielding or a host call before it is overdue.
const lastWords = 100 * time.Millisecond

// Stop ends the guest as wire.Stop says. It does not wait. The first call's signal counts, and the shortest grace.
func (g *Guest) Stop(s wire.Stop) {
	grace := time.Duration(s.Grace) * time.Millisecond
	due := time.Now().Add(grace)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.late != nil {
		if due.Before(g.due) {
			g.due = due
			g.late.Reset(grace)
		}
		return
	}
	g.signal = uint32(128 + s.Signal)
	g.due, g.late = due, time.AfterFunc(grace, g.interrupt)
	close(g.stopped)
	g.system.Drain()
	go func() {
		<-g.system.Idle() // at the latest when the system is closed
		g.interrupt()
	}()
}

// Stopped is closed when the guest was stopped. One that was not started then should not be.
func (g *Guest) Stopped() <-chan struct{} { return g.stopped }

// Signal is the exit code of a guest that was stopped; it is valid after Stopped.
func (g *Guest) Signal() uint32 { return g.signal }

// interrupt ends the guest wherever it is: in a host call, at the next one, or when it yields.
func (g *Guest) interrupt() {
	if !g.ending.CompareAndSwap(0, g.signal) {
		return
	}
	g.system.Interrupt(g.signal)
	time.AfterFunc(lastWords, func() { close(g.overdue) })
}
