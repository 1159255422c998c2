package pin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until no other process loads or collects in this layout, or until ctx ends. The kernel gives the lock back
// when its holder dies.
func (l *Layout) Lock(ctx context.Context) (unlock func(), err error) {
	dir, err := lockDir(ctx, l.dir)
	if err != nil {
		return nil, err
	}
	return func() { dir.Close() }, nil
}

// ErrClaimed is somebody else's claim.
var ErrClaimed = errors.New("another process does this already")

// Claim is for what only one process of the node may do at a time. The kernel ends the claim of who dies. The error is
// ErrClaimed, at once, if another process has it.
func (l *Layout) Claim(name string) (release func(), err error) {
	path := filepath.Join(l.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("claim %s: %w", name, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", name, err)
	}
	if err := flock(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrClaimed
		}
		return nil, fmt.Errorf("claim %s: %w", name, err)
	}
	return func() { dir.Close() }, nil
}

// lockPod keeps others from attaching to or detaching from one cgroup. The directory is made if it is missing.
func (l *Layout) lockPod(ctx context.Context, id uint64) (unlock func(), err error) {
	for {
		if err := os.Mkdir(l.pod(id), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make pin directory: %w", err)
		}
		dir, err := lockDir(ctx, l.pod(id))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Between mkdir and lock, a Detach may have removed the directory, and somebody made another.
		mine, err := dir.Stat()
		if err == nil {
			var there os.FileInfo
			if there, err = os.Stat(dir.Name()); err == nil && os.SameFile(mine, there) {
				return func() { dir.Close() }, nil
			}
		}
		dir.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("lock pins: %w", err)
		}
	}
}

// lockDir returns the open directory, whose closing gives the lock back.
func lockDir(ctx context.Context, path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock pins: %w", err)
	}
	for {
		err := flock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			dir.Close()
			return nil, fmt.Errorf("lock pins: %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, fmt.Errorf("lock pins: %s: %w (another process of hachi holds it)", path, ctx.Err())
		case <-time.After(200 * time.Microsecond):
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
