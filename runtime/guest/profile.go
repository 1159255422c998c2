package guest

import (
	"fmt"
	"os"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/artifact"
	"github.com/hachi-run/hachi/runtime/preempt"
	"github.com/hachi-run/hachi/runtime/profile"
)

// profiler takes a sample of the guest's stack at every tick that finds it computing.
type profiler struct {
	*profile.Recorder
	out *os.File
	// stack is used again and again, by the guest's one goroutine.
	stack []uint32
}

func newProfiler(out *os.File) *profiler {
	if out == nil {
		return nil
	}
	return &profiler{Recorder: profile.New(preempt.DefaultPeriod), out: out}
}

// sampler is for preempt.Options; nil without a profile.
func (p *profiler) sampler() func(experimental.StackIterator) {
	if p == nil {
		return nil
	}
	return func(it experimental.StackIterator) {
		p.stack = p.stack[:0]
		for it.Next() {
			// The innermost frame is the tick itself, a function of ours.
			if d := it.Function().Definition(); d.GoFunction() == nil {
				p.stack = append(p.stack, d.Index())
			}
		}
		p.Add(p.stack)
	}
}

// finish writes the profile with the guest's own names of its functions.
func (p *profiler) finish(module, compiled *os.File) error {
	if p == nil {
		return nil
	}
	names := map[uint32]string{}
	if symbols, err := artifact.Symbols(module, compiled); err == nil {
		names = symbols.Names
	}
	return p.Write(p.out, func(index uint32) string {
		if name, known := names[index]; known {
			return name
		}
		return fmt.Sprintf("function %d", index)
	})
}
