package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock is the right to make one entry, against all processes. The kernel drops it when its holder dies.
type lock struct {
	f    *os.File
	path string
}

// lock waits until the entry's lock is free or ctx is done.
func (e entry) lock(ctx context.Context) (*lock, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := e.tryLock()
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// tryLock returns nil and no error if another process holds the lock.
func (e entry) tryLock() (*lock, error) {
	path := e.file(extLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The former holder may have removed the name between our open and our lock; then this is a lock
	// on nothing.
	var ours, named unix.Stat_t
	if unix.Fstat(int(f.Fd()), &ours) != nil || unix.Lstat(path, &named) != nil || ours.Ino != named.Ino || ours.Dev != named.Dev {
		f.Close()
		return nil, nil
	}
	return &lock{f: f, path: path}, nil
}

// release removes the lock's name before it lets go, so that no lock files pile up.
func (l *lock) release() {
	_ = os.Remove(l.path)
	l.f.Close()
}
