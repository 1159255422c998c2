package flow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// lease is how long the programs go on filling the ring for a follower that died; poll is the longest that a record
// waits in it; period is how often open connections are recorded.
const (
	lease  = 3 * time.Second
	poll   = 100 * time.Millisecond
	period = 10 * time.Second
)

// Follow calls each with every record made from now on, in about their order, until ctx ends; then it returns nil. A
// node has one follower: the error is pin.ErrClaimed if there is another. What each cannot keep up with is lost, and
// counted in Lost.
func (f *Flows) Follow(ctx context.Context, each func(Record)) (err error) {
	release, err := f.layout.Claim("follower")
	if err != nil {
		return fmt.Errorf("follow flows: %w", err)
	}
	defer release()
	ring, err := ringbuf.NewReader(f.ring)
	if err != nil {
		return fmt.Errorf("follow flows: %w", err)
	}
	defer ring.Close()

	// What an earlier follower left unread is not of our time, and would leave no room.
	if err := read(ring, time.Now(), func(*flowRecord) error { return nil }); err != nil {
		return err
	}
	since := uint64(sinceBoot())
	stop, err := f.renew()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	var swept time.Time
	for ctx.Err() == nil {
		now := time.Now()
		if now.Sub(swept) > period {
			swept = now
			if err := f.sweep(); err != nil {
				return err
			}
		}
		boot := bootTime()
		err := read(ring, now.Add(poll), func(got *flowRecord) error {
			if got.Time < since {
				return nil
			}
			r, err := decode(got, boot)
			if err == nil {
				each(r)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// renew takes the lease and keeps it until stop, also while the follower is busy: the ring then runs full, and the
// programs count what they lose.
func (f *Flows) renew() (stop func() error, err error) {
	if err := f.until(sinceBoot() + lease); err != nil {
		return nil, err
	}
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(lease / 3)
		defer tick.Stop()
		var err error
		for {
			select {
			case <-done:
				ended <- errors.Join(err, f.until(0))
				return
			case <-tick.C:
				err = f.until(sinceBoot() + lease)
			}
		}
	}()
	return func() error { close(done); return <-ended }, nil
}

// read hands out what is in the ring and what comes until the deadline, or until each returns an error. While the ring
// does not run dry it goes on for a second at most, so that the caller sees to its other work.
func read(ring *ringbuf.Reader, deadline time.Time, each func(*flowRecord) error) error {
	ring.SetDeadline(deadline)
	var sample ringbuf.Record
	for {
		err := ring.ReadInto(&sample)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow flows: %w", err)
		}
		got, err := raw(sample.RawSample)
		if err != nil {
			return err
		}
		if err := each(&got); err != nil {
			return err
		}
		if time.Since(deadline) > time.Second {
			return nil
		}
	}
}

// until tells the programs how long somebody reads the ring.
func (f *Flows) until(t time.Duration) error {
	if err := f.wish.Update(uint32(0), flowWish{Lease: uint64(t)}, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("follow flows: %w", err)
	}
	return nil
}
