package agent

import (
	"github.com/hachi-run/hachi/shim/node"
	"sync"
	"sync/atomic"
)

// backlog is how many lines wait for a reader of the stream before it misses some. With lines of 400 bytes that is
// 400 KiB a reader.
const backlog = 1024

// maxReaders bounds the readers of the stream, and with them its memory.
const maxReaders = 16

// stream hands lines to any number of readers and waits for none: one that is slow misses lines, and is told how many.
// The zero value works.
type stream struct {
	mu      sync.Mutex
	readers map[*reader]struct{} // guarded by mu;
	closed  bool                 // guarded by mu
	dropped atomic.Uint64
}

// reader is one who reads the stream; its owner calls leave.
type reader struct {
	match func(*node.Flow) bool
	lines chan []byte
	// missed counts lines that did not fit since it was last asked.
	missed atomic.Uint64
}

// join adds a reader of the flows that match; nil when there are too many, or the stream is closed.
func (s *stream) join(match func(*node.Flow) bool) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.readers) >= maxReaders {
		return nil
	}
	r := &reader{match: match, lines: make(chan []byte, backlog)}
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

// send hands a flow to those that want it. line is called once, and only if somebody does.
func (s *stream) send(f *node.Flow, line func(*node.Flow) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text []byte
	for r := range s.readers {
		if !r.match(f) {
			continue
		}
		if text == nil {
			text = line(f)
		}
		select {
		case r.lines <- text:
		default:
			r.missed.Add(1)
			s.dropped.Add(1)
		}
	}
}

// close ends every reader: their lines are closed. Nothing is sent after it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for r := range s.readers {
		close(r.lines)
	}
	s.readers = nil
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers)
}
