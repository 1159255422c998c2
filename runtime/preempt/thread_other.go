//go:build !linux || !(amd64 || arm64)

package preempt

import (
	"errors"
	"time"
)

type thread struct{}

func startThread(*uint32, time.Duration) (*thread, error) {
	return nil, errors.New("no ticking thread for this architecture")
}

func (*thread) wake() {}
func (*thread) stop() {}
