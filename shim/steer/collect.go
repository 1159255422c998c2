package steer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/bpf/redirect"
)

// Collect ends the redirection of containers that have ended, by their cgroups' ids, and of all whose cgroup is gone. On
// a node that never redirected anything it does nothing.
func Collect(ctx context.Context, ended []uint64) error {
	layout, err := pin.Open(pin.DefaultRoot)
	if err == nil {
		_, err = os.Stat(layout.Map("redirect_pods"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect redirection: %w", err)
	}
	r, err := redirect.Open(ctx, redirect.Options{})
	if err != nil {
		return err
	}
	// Whatever else has a cgroup stays redirected: its container may be about to start.
	_, err = r.Collect(ctx, func(cgroup uint64) bool { return !slices.Contains(ended, cgroup) })
	return errors.Join(err, r.Close())
}
