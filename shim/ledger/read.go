package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/runtime/cgroup"
)

// Read is what a container has used until now. With a nil observer, or a container that it is not attached to, what BPF
// counts is zero. The error is fs.ErrNotExist when the container has ended.
func (l *Ledger) Read(e Entry, o *observe.Observer) (Tally, error) {
	var c account.Counters
	counted := false
	if o != nil && e.Cgroup != "" {
		var err error
		if c, err = o.Read(e.CgroupID); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Tally{}, fmt.Errorf("read container %s: %w", e.ID, err)
		}
		counted = err == nil
	}
	u, err := cgroup.ReadUsage(e.CgroupDirs)
	if err != nil {
		return Tally{}, fmt.Errorf("read container %s: %w", e.ID, err)
	}
	return combine(e, c, counted, u), nil
}

// End takes the last reading of a container, while its cgroup is still there, ends its accounting and takes it out of the
// ledger. What cannot be read is zero in the record. It is fs.ErrNotExist when that was done before.
func (l *Ledger) End(e Entry, o *observe.Observer) error {
	var c account.Counters
	var errs []error
	counted := false
	if o != nil && e.Cgroup != "" {
		var err error
		if c, err = o.Detach(e.CgroupID); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("end accounting of container %s: %w", e.ID, err))
		}
		counted = err == nil
	}
	u, err := cgroup.ReadUsage(e.CgroupDirs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("end accounting of container %s: %w", e.ID, err))
	}
	return errors.Join(append(errs, l.Leave(e.CgroupID, combine(e, c, counted, u)))...)
}

// Strike takes out a container that came to nothing, without a record. It is fs.ErrNotExist when that was done before.
func (l *Ledger) Strike(e Entry, o *observe.Observer) error {
	var err error
	if o != nil && e.Cgroup != "" {
		if _, err = o.Detach(e.CgroupID); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err := errors.Join(err, os.Remove(l.path(e.CgroupID))); err != nil {
		return fmt.Errorf("strike container %s out of the ledger: %w", e.ID, err)
	}
	return nil
}

func combine(e Entry, c account.Counters, counted bool, u cgroup.Usage) Tally {
	t := Tally{Counted: counted, RoundTrips: c.RTT, Reading: Reading{
		Namespace: e.Namespace, Pod: e.Pod, Container: e.Container, ID: e.ID,
		RxBytes: c.RxBytes, TxBytes: c.TxBytes, RxPackets: c.RxPackets, TxPackets: c.TxPackets,
		ConnectionsOpened: c.Opened, ConnectionsAccepted: c.Accepted, ConnectionsFailed: c.Failed,
		ConnectionsRefused: c.Refused, ConnectionsOpen: c.Open, Retransmits: c.Retransmits,
		CPU: uint64(u.CPU), Memory: u.Memory,
	}}
	t.RTT.P50, _ = c.RTT.Quantile(0.5)
	t.RTT.P99, _ = c.RTT.Quantile(0.99)
	return t
}
