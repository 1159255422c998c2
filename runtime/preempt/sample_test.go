package preempt_test

import (
	"context"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/hachi-run/hachi/runtime/preempt"
)

// TestSample walks the stack of a guest that counts: it is in count, called by nobody.
func TestSample(t *testing.T) {
	var stacks [][]string
	mod, ticker, done := guest(t, preempt.Options{Sample: func(it experimental.StackIterator) {
		var stack []string
		for it.Next() {
			if d := it.Function().Definition(); d.GoFunction() == nil {
				stack = append(stack, d.ExportNames()...)
			}
		}
		stacks = append(stacks, stack)
	}})
	defer done()
	for len(stacks) < 3 {
		if _, err := mod.ExportedFunction("count").Call(context.Background(), 100_000_000); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range stacks {
		if !slices.Equal(s, []string{"count"}) {
			t.Errorf("the stack is %q, want count alone", s)
		}
	}
	if n := ticker.Yields(); n != uint64(len(stacks)) {
		t.Errorf("%d samples in %d yields", len(stacks), n)
	}
}
