package agent

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hachi-run/hachi/shim/node"
)

// backlog is how many flows wait for a reader of the stream before it misses some. With 500 bytes each that is
// 500 KiB a reader, less what several wait for.
const backlog = 1024

// maxReaders bounds the readers of the stream, and with them its memory.
const maxReaders = 16

// errFull is for one who cannot follow.
var errFull = fmt.Errorf("%d readers follow already, or the agent is ending (try again later)", maxReaders)

// stream hands flows to any number of readers and waits for none: one that is slow misses some, and is told how many.
// The zero value works.
type stream struct {
	mu      sync.Mutex
	readers map[*reader]struct{} // guarded by mu
	closed  bool                 // guarded by mu
	dropped atomic.Uint64
}

// reader is one who reads the stream; its owner calls leave.
type reader struct {
	match func(*node.Flow) bool
	// flows are not to be changed, for other readers have them too.
	flows chan *node.Flow
	// missed counts flows that did not fit since it was last asked.
	missed atomic.Uint64
}

// join adds a reader of the flows that match; nil when there are too many, or the stream is closed.
func (s *stream) join(match func(*node.Flow) bool) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.readers) >= maxReaders {
		return nil
	}
	r := &reader{match: match, flows: make(chan *node.Flow, backlog)}
	if s.readers == nil {
		s.readers = map[*reader]struct{}{}
	}
	s.readers[r] = struct{}{}
	return r
}

func (s *stream) leave(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.readers, r)
}

// send hands a flow to those that want it.
func (s *stream) send(f *node.Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.readers {
		if !r.match(f) {
			continue
		}
		select {
		case r.flows <- f:
		default:
			r.missed.Add(1)
			s.dropped.Add(1)
		}
	}
}

// close ends every reader: their flows are closed. Nothing is sent after it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for r := range s.readers {
		close(r.flows)
	}
	s.readers = nil
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers)
}
