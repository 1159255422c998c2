package pod

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// State is where a process is in its life.
type State int

// A process is born Created, and Running, Paused and Stopped are the task API's states. Nothing leaves
// Deleted.
const (
	Created State = iota
	Running
	Paused
	Stopped
	Deleted
)

func (s State) String() string {
	return [...]string{"created", "running", "paused", "stopped", "deleted"}[s]
}

func (s *State) start() error  { return s.move("start", Running, Created) }
func (s *State) pause() error  { return s.move("pause", Paused, Running) }
func (s *State) resume() error { return s.move("resume", Running, Paused) }
func (s *State) exit() error   { return s.move("exit", Stopped, Created, Running, Paused) }
func (s *State) remove() error { return s.move("delete", Deleted, Created, Stopped) }

// live tells whether the process can take part in something that needs it alive.
func (s State) live(event string) error {
	if s == Running || s == Paused || s == Created {
		return nil
	}
	return wrong(event, s, Created, Running, Paused)
}

// move goes to the state to if the process is in one of from, and says what is wrong otherwise.
func (s *State) move(event string, to State, from ...State) error {
	if !slices.Contains(from, *s) {
		return wrong(event, *s, from...)
	}
	*s = to
	return nil
}

func wrong(event string, is State, want ...State) error {
	words := make([]string, len(want))
	for i, w := range want {
		words[i] = w.String()
	}
	return fmt.Errorf("%s: process is %s, not %s: %w", event, is, strings.Join(words, " or "), errdefs.ErrFailedPrecondition)
}
