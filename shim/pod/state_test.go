package pod

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestStatesMoveOnlyAsTheyMay(t *testing.T) {
	events := map[string]struct {
		move func(*State) error
		from map[State]State // what is allowed, and where it leads
	}{
		"start":  {(*State).start, map[State]State{Created: Running}},
		"pause":  {(*State).pause, map[State]State{Running: Paused}},
		"resume": {(*State).resume, map[State]State{Paused: Running}},
		"exit":   {(*State).exit, map[State]State{Created: Stopped, Running: Stopped, Paused: Stopped}},
		"delete": {(*State).remove, map[State]State{Created: Deleted, Stopped: Deleted}},
	}
	for name, e := range events {
		for from := Created; from <= Deleted; from++ {
			state := from
			err := e.move(&state)
			want, allowed := e.from[from]
			switch {
			case allowed && (err != nil || state != want):
				t.Errorf("%s when %s: got %s, %v; want %s", name, from, state, err, want)
			case !allowed && (!errdefs.IsFailedPrecondition(err) || state != from):
				t.Errorf("%s when %s: got %s, %v; want FailedPrecondition and no move", name, from, state, err)
			case !allowed && (!strings.Contains(err.Error(), from.String()) || !strings.Contains(err.Error(), name)):
				t.Errorf("%s when %s: error %q names neither", name, from, err)
			}
		}
	}
}
