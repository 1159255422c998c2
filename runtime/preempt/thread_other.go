//go:build !linux || !(amd64 || arm64)

package preempt

import "time"

type thread struct{}

func startThread(*uint32, time.Duration) (*thread, error) { return nil, errUnsupported }

func (*thread) wake() {}
func (*thread) stop() {}
