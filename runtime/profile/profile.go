// Package profile keeps samples of a guest's stack and writes them in the format of pprof.
package profile

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// maxDepth bounds a sample; of deeper stacks the innermost frames are kept.
	maxDepth = 256
	// maxStacks bounds the memory for stacks that differ; samples of more count for Other.
	maxStacks = 1 << 16
)

// Other is the function to which samples are put down that there was no room for.
const Other = ^uint32(0)

// Recorder counts stacks. It is safe for concurrent use.
type Recorder struct {
	period time.Duration
	begun  time.Time

	mu     sync.Mutex
	stacks map[string]uint64 // guarded by mu: samples by stack, four bytes a frame
	key    []byte            // guarded by mu
}

// New makes a recorder of samples that each stand for period of computing.
func New(period time.Duration) *Recorder {
	return &Recorder{period: period, begun: time.Now(), stacks: map[string]uint64{}}
}

// Add counts one sample: the functions on the stack by their indices, the innermost first.
func (r *Recorder) Add(stack []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key = r.key[:0]
	for _, f := range stack[:min(len(stack), maxDepth)] {
		r.key = binary.LittleEndian.AppendUint32(r.key, f)
	}
	if _, known := r.stacks[string(r.key)]; !known && len(r.stacks) >= maxStacks {
		r.key = binary.LittleEndian.AppendUint32(r.key[:0], Other)
	}
	r.stacks[string(r.key)]++
}
