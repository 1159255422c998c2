package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readerWait is how long a fifo may be without a reader before the guest starts all the same.
// containerd's clients open theirs before they create the task.
const readerWait = 5 * time.Second

// source opens the process's stdin. A fifo is opened without waiting for the client, and once more for writing: as
// runc's shim has it, the input ends when CloseInput was called and the client has closed its end, so that it survives a
// restart of the client and no byte is lost that the client wrote before it asked for the end.
func (s *Streams) source(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	isFifo, err := fifo(name)
	if err != nil {
		return nil, err
	}
	if !isFifo {
		return os.Open(name)
	}
	r, err := openBlocking(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	w, err := openBlocking(name, unix.O_WRONLY)
	if err != nil {
		r.Close()
		return nil, err
	}
	s.input = w
	return r, nil
}

// pipe opens a fifo for writing, and for reading too: with a reader of our own the guest does not get
// EPIPE while containerd restarts.
func (s *Streams) pipe(ctx context.Context, name string) (*os.File, error) {
	isFifo, err := fifo(name)
	if err != nil {
		return nil, err
	}
	if !isFifo {
		return os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	}
	w, err := awaitReader(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open fifo %s: %w", name, err)
	}
	r, err := openBlocking(name, unix.O_RDONLY)
	if err == nil && w == nil {
		w, err = openBlocking(name, unix.O_WRONLY)
	}
	if r != nil {
		s.hold = append(s.hold, r)
	}
	return w, err
}

func fifo(name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	return info.Mode()&os.ModeNamedPipe != 0, nil
}

// awaitReader waits until the fifo has a reader, so that output cannot vanish when the guest is faster than its client, and
// returns the write end; nil when no reader came. The end must stay open from then on: a reader that has seen a writer
// come and go has seen the end of the output.
func awaitReader(ctx context.Context, name string) (*os.File, error) {
	late := time.Now().Add(readerWait)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		w, err := openBlocking(name, unix.O_WRONLY)
		if !errors.Is(err, unix.ENXIO) {
			return w, err
		}
		if time.Now().After(late) {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// openBlocking opens a fifo without waiting for its other end, for a process that will wait when it reads or writes.
func openBlocking(name string, access int) (*os.File, error) {
	fd, err := unix.Open(name, access|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
