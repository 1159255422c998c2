package install

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// reload restarts containerd and waits until another process than before serves and check is content with it.
func (i *Installer) reload(ctx context.Context, before *containerd, back *undo, check func(*containerd) error) error {
	back.restarted = true
	i.log.Info("restarting containerd", "version", before.version)
	if err := i.restart(ctx, before); err != nil {
		return err
	}
	now, err := i.wait(ctx, before)
	if err != nil {
		return err
	}
	if err := check(now); err != nil {
		return err
	}
	i.log.Info("containerd serves again")
	return nil
}

// wait returns when a containerd other than before serves.
func (i *Installer) wait(ctx context.Context, before *containerd) (*containerd, error) {
	ctx, cancel := context.WithTimeout(ctx, i.o.Timeout)
	defer cancel()
	last := errors.New("it has not ended")
	for {
		now, err := i.ask(ctx)
		switch {
		case err == nil && (now.pid != before.pid || now.started != before.started):
			return now, nil
		case err == nil:
			last = errors.New("the same process still serves")
		case ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("restart containerd: no answer from a new one after %v: %w (see journalctl -u containerd)", i.o.Timeout, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// rollback takes everything back. If containerd may have seen it, it is restarted once more. It does not end with ctx:
// half an installation is worse than a late answer.
func (i *Installer) rollback(ctx context.Context, before *containerd, back *undo) error {
	ctx = context.WithoutCancel(ctx)
	if len(back.steps) == 0 {
		return nil
	}
	i.log.Warn("taking everything back")
	if err := back.all(); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	if !back.restarted {
		return nil
	}
	now, err := i.ask(ctx)
	if err != nil {
		// It does not serve: what cannot be asked is restarted blindly.
		now = before
	}
	if err := i.restart(ctx, now); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	if _, err := i.wait(ctx, now); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	i.log.Info("containerd serves again, as before")
	return nil
}
