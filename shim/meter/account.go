package meter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/shim/ledger"
)

// Account is one container's. Its methods are safe for concurrent use.
type Account struct {
	m      *Meter
	id     string
	ctx    context.Context // ends with End and with the meter
	cancel context.CancelFunc
	begun  chan struct{} // closed when what follows is set for good
	entry  ledger.Entry
	in     bool              // the container is in the ledger
	by     *observe.Observer // counts its traffic; nil where nobody does

	ending sync.Once
}

// begin enters the container into the ledger, and then has it counted: others take what is counted and not in the ledger
// for left-overs.
func (a *Account) begin(annotations map[string]string, unified string, dirs []string) (err error) {
	if a.entry, err = ledger.NewEntry(a.m.o.Namespace, a.id, annotations, unified, dirs); err != nil {
		return err
	}
	if err := a.m.book.Enter(a.entry); err != nil {
		return err
	}
	a.in = true
	if unified == "" {
		return errors.New("traffic is counted by cgroup2, and the container has none (mount -t cgroup2 none /sys/fs/cgroup/unified)")
	}
	select {
	case <-a.m.opened:
	case <-a.ctx.Done():
		return nil
	}
	o := a.m.observer
	if o == nil {
		return nil // and the log has the reason
	}
	id, err := o.Attach(unified)
	if err != nil {
		return fmt.Errorf("count its traffic: %w", err)
	}
	if id != a.entry.CgroupID {
		return fmt.Errorf("count its traffic: %s is cgroup %d now, not %d", unified, id, a.entry.CgroupID)
	}
	a.by = o
	return nil
}

// Ready returns when everything that the container does from then on is accounted for, or will not be, or after some
// seconds.
func (a *Account) Ready(ctx context.Context) {
	select {
	case <-a.begun:
		return
	default:
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-a.begun:
	case <-ctx.Done():
	case <-late.C:
		slog.Warn("container starts before it is accounted for", "id", a.id, "waited", patience)
	}
}

// Traffic is what the container has sent and received so far, as that of an interface "eth0"; nil when nobody counts.
func (a *Account) Traffic() *metrics.Network {
	select {
	case <-a.begun:
	default:
		return nil
	}
	if a.by == nil {
		return nil
	}
	c, err := a.by.Read(a.entry.CgroupID)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // after End there is nothing
			slog.Warn("cannot read a container's traffic", "id", a.id, "error", err)
		}
		return nil
	}
	return &metrics.Network{Name: "eth0", RxBytes: c.RxBytes, RxPackets: c.RxPackets, TxBytes: c.TxBytes, TxPackets: c.TxPackets}
}

// End takes the last reading, for the record of the container's end; its cgroup must still be there. Further calls of
// End or Undo wait for the first.
func (a *Account) End() { a.finish((*ledger.Ledger).End) }

// Undo is End for a container that came to nothing: there is no record of it.
func (a *Account) Undo() { a.finish((*ledger.Ledger).Strike) }

func (a *Account) finish(by func(*ledger.Ledger, ledger.Entry, *observe.Observer) error) {
	a.ending.Do(func() {
		a.cancel()
		<-a.begun
		if !a.in {
			return
		}
		if err := by(a.m.book, a.entry, a.by); err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Error("container left its account", "id", a.id, "error", err)
		}
	})
}
