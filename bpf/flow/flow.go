package flow

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
)

// Set is what pin.Layout.Load loads, after accounting, before Open works. It needs the kernel's BTF.
var Set = pin.Set{Name: "flow", Object: _FlowBytes, Spec: loadFlow, Ready: join}

// join puts the programs where accounting's go on.
func join(l *pin.Layout, c *ebpf.Collection) error {
	for array, program := range map[string]string{
		"hachi_next_conn": flowProgFlowConn,
		"hachi_next_out":  flowProgFlowDnsOut,
		"hachi_next_in":   flowProgFlowDnsIn,
	} {
		m, err := ebpf.LoadPinnedMap(l.Map(array), nil)
		if err != nil {
			return fmt.Errorf("join accounting: %s: %w", array, err)
		}
		err = m.Update(uint32(0), c.Programs[program], ebpf.UpdateAny)
		m.Close()
		if err != nil {
			return fmt.Errorf("join accounting: %s: %w", array, err)
		}
	}
	return nil
}

// Flows reads the node's records. It may be used concurrently.
type Flows struct {
	layout                                 *pin.Layout
	maps                                   []*ebpf.Map // the six below, to close
	recent, ring, seq, wish, losses, conns *ebpf.Map
	sweeper                                *ebpf.Program
}

// Open finds what is pinned; fs.ErrNotExist if this build was never loaded. The caller closes it.
func Open(l *pin.Layout) (_ *Flows, err error) {
	f := &Flows{layout: l}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for _, m := range []struct {
		name string
		at   **ebpf.Map
	}{
		{flowMapHachiRecent, &f.recent}, {flowMapHachiRing, &f.ring}, {flowMapHachiSeq, &f.seq},
		{flowMapHachiWish, &f.wish}, {flowMapHachiLosses, &f.losses}, {flowMapHachiConns, &f.conns},
	} {
		if *m.at, err = ebpf.LoadPinnedMap(l.Map(m.name), nil); err != nil {
			return nil, fmt.Errorf("open flows: %s: %w", m.name, err)
		}
		f.maps = append(f.maps, *m.at)
	}
	if f.sweeper, err = l.Program(Set, flowProgFlowSweep); err != nil {
		return nil, fmt.Errorf("open flows: %w", err)
	}
	return f, nil
}

// Close gives the descriptors back.
func (f *Flows) Close() error {
	err := f.sweeper.Close()
	for _, m := range f.maps {
		err = errors.Join(err, m.Close())
	}
	return err
}

// Recent returns the newest records of the node, oldest first: up to 4096, without an open connection's records that
// later ones of the same connection made stale. It records open connections first. Nothing is consumed.
func (f *Flows) Recent() ([]Record, error) {
	if err := f.sweep(); err != nil {
		return nil, err
	}
	var last uint64
	if err := f.seq.Lookup(uint32(0), &last); err != nil {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	boot := bootTime()
	size := min(last, uint64(f.recent.MaxEntries()))
	var records []Record
	const batch = 256
	var cursor ebpf.MapBatchCursor
	keys, values := make([]uint32, batch), make([]flowRecord, batch)
	for read := uint64(0); read < size; {
		n, err := f.recent.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("read flows: %w", err)
		}
		for i := range values[:n] {
			if v := &values[i]; v.Seq != 0 && v.Seq == v.End {
				r, derr := decode(v, boot)
				if derr != nil {
					return nil, derr
				}
				records = append(records, r)
			}
		}
		read += uint64(n)
		if err != nil {
			break
		}
	}
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return latest(records), nil
}

// latest leaves out open connections of which there is a later record.
func latest(records []Record) []Record {
	stale := map[uint64]bool{} // by cookie
	kept := len(records)
	for i := len(records) - 1; i >= 0; i-- {
		r := records[i]
		if r.Kind == KindOpen && stale[r.Cookie] {
			continue
		}
		if r.Kind != KindDNS {
			stale[r.Cookie] = true
		}
		kept--
		records[kept] = r
	}
	return records[kept:]
}

// sweep makes the kernel record every connection that is open and was not recorded for ten seconds.
func (f *Flows) sweep() error {
	it, err := link.AttachIter(link.IterOptions{Program: f.sweeper, Map: f.conns})
	if err != nil {
		return fmt.Errorf("sweep connections: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("sweep connections: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("sweep connections: %w", err)
	}
	return nil
}

// Lost counts records that nobody will see.
func (f *Flows) Lost() (Losses, error) {
	var n [2]uint64
	for i := range n {
		var perCPU []uint64
		if err := f.losses.Lookup(uint32(i), &perCPU); err != nil {
			return Losses{}, fmt.Errorf("read losses: %w", err)
		}
		for _, v := range perCPU {
			n[i] += v
		}
	}
	return Losses{Ring: n[0], Untracked: n[1]}, nil
}

// sinceBoot is the clock of the programs.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	// It cannot fail: the clock exists since Linux 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// bootTime is when that clock stood at 0. It moves when the machine's time is set.
func bootTime() time.Time { return time.Now().Round(0).Add(-sinceBoot()) }
