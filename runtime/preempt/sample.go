package preempt

import (
	"context"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// sampler listens to the calls of one host function, the tick's: wazero walks the stack for listeners. The guest's own code
// is not compiled for listening, and is as fast as ever.
type sampler func(experimental.StackIterator)

// NewFunctionListener implements experimental.FunctionListenerFactory.
func (s sampler) NewFunctionListener(api.FunctionDefinition) experimental.FunctionListener { return s }

// Before implements experimental.FunctionListener.
func (s sampler) Before(_ context.Context, _ api.Module, _ api.FunctionDefinition, _ []uint64, stack experimental.StackIterator) {
	s(stack)
}

// After implements experimental.FunctionListener.
func (sampler) After(context.Context, api.Module, api.FunctionDefinition, []uint64) {}

// Abort implements experimental.FunctionListener.
func (sampler) Abort(context.Context, api.Module, api.FunctionDefinition, error) {}
