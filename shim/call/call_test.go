package call

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestGuardHandsOn(t *testing.T) {
	oops := errors.New("oops")
	if got, err := Guard("/x/Y", func() (int, error) { return 7, oops }); got != 7 || !errors.Is(err, oops) {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestGuardSurvivesAPanic(t *testing.T) {
	_, err := Guard("/x/Y", func() (int, error) { panic("oops") })
	if !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "/x/Y") || !strings.Contains(err.Error(), "oops") {
		t.Errorf("got %v, want an internal error with the panic's words", err)
	}
}
