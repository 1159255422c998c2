package cgroup

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting is one control file and its value.
type setting struct {
	file, value string
	// optional settings say what is so anyway where the file is missing.
	optional bool
}

// apply sets limits on whichever version has the controllers.
func (g *Group) apply(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	if g.m.host.unified {
		return applyV2(g.v2, r)
	}
	return g.applyV1(r)
}

func missing(controller string) error {
	return fmt.Errorf("set %s limits: this machine has no %s controller: %w", controller, controller, errdefs.ErrFailedPrecondition)
}

// explain adds what the kernel's errno means on a limit file.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (below what is in use and cannot be reclaimed)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (not a valid value, or more than the group above allows)", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w (this kernel does not account for it)", err)
	}
	return err
}
