package agent

import (
	"net/http"
	"time"
)

// writeTime is how long a reader of a stream may block before it is dropped.
const writeTime = 10 * time.Second

// answer is one that may go on for ever, while no write takes longer than its limit. Between writes there is no deadline:
// HTTP/2 ends a stream at its deadline also when nothing is written. It is used by one goroutine.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

// newAnswer lifts the server's own deadline.
func newAnswer(w http.ResponseWriter, limit time.Duration) *answer {
	a := &answer{w, http.NewResponseController(w), limit}
	a.until(time.Time{})
	return a
}

// until sets the deadline. Its errors are of a connection that is gone; the next write finds out.
func (a *answer) until(t time.Time) { _ = a.control.SetWriteDeadline(t) }

// Write may block; what it has buffered is sent by FlushError, which the last Write is followed by.
func (a *answer) Write(b []byte) (int, error) {
	a.until(time.Now().Add(a.limit))
	return a.ResponseWriter.Write(b)
}

// FlushError sends what was written. After an error the deadline stays, so that nothing waits for this reader again.
func (a *answer) FlushError() error {
	a.until(time.Now().Add(a.limit))
	err := a.control.Flush()
	if err == nil {
		a.until(time.Time{})
	}
	return err
}

// Flush is for gRPC, which takes no answer without it.
func (a *answer) Flush() { _ = a.FlushError() }
