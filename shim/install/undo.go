package install

import (
	"errors"
	"fmt"
	"slices"
)

// undo remembers how to take steps back.
type undo struct {
	steps []step
	// restarted tells that containerd may have seen what the steps did.
	restarted bool
}

type step struct {
	what string
	back func() error
}

func (u *undo) add(what string, back func() error) { u.steps = append(u.steps, step{what, back}) }

// all takes every step back, the last first. It goes on after an error.
func (u *undo) all() error {
	var errs []error
	for _, s := range slices.Backward(u.steps) {
		if err := s.back(); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s.what, err))
		}
	}
	u.steps = nil
	return errors.Join(errs...)
}
