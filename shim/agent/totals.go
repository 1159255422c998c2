package agent

import (
	"slices"
	"time"

	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

const (
	// keep is how long the counters of a name are shown after its last container ended: any Prometheus has asked
	// several times by then, and a container that is started again under its name goes on counting.
	keep = time.Hour
	// maxEnded bounds the names that are kept so; the ones that ended first go first.
	maxEnded = 1000
	// limbo is how long the exit record of a container that is gone may take: where its shim was killed, until leftovers
	// are collected. Without one, its last reading counts.
	limbo = 3 * collectEvery
)

// name is what a series is called. A container's id is not in it: a name that is started again and again must not make
// a new series each time.
type name struct{ namespace, pod, container string }

// instance is one container, also after a reboot or under a cgroup number that is used again.
type instance struct {
	cgroup  uint64
	started int64
}

// usage is what the containers of one name have used.
type usage struct {
	// Counted says that eBPF counted at least one of them. RTT is not kept.
	ledger.Tally
}

func (u *usage) add(r ledger.Tally) {
	u.Counted = u.Counted || r.Counted
	u.RxBytes += r.RxBytes
	u.TxBytes += r.TxBytes
	u.RxPackets += r.RxPackets
	u.TxPackets += r.TxPackets
	u.ConnectionsOpened += r.ConnectionsOpened
	u.ConnectionsAccepted += r.ConnectionsAccepted
	u.ConnectionsFailed += r.ConnectionsFailed
	u.ConnectionsRefused += r.ConnectionsRefused
	u.Retransmits += r.Retransmits
	u.CPU += r.CPU
	for k, n := range r.RoundTrips {
		u.RoundTrips[k] += n
	}
}

// atLeast is a final reading in which nothing is less than in an earlier one: in the record of a container whose shim was
// killed, zero is what could not be read any more.
func atLeast(final, earlier ledger.Tally) ledger.Tally {
	for _, c := range []struct {
		final   *uint64
		earlier uint64
	}{
		{&final.RxBytes, earlier.RxBytes}, {&final.TxBytes, earlier.TxBytes},
		{&final.RxPackets, earlier.RxPackets}, {&final.TxPackets, earlier.TxPackets},
		{&final.ConnectionsOpened, earlier.ConnectionsOpened}, {&final.ConnectionsAccepted, earlier.ConnectionsAccepted},
		{&final.ConnectionsFailed, earlier.ConnectionsFailed}, {&final.ConnectionsRefused, earlier.ConnectionsRefused},
		{&final.Retransmits, earlier.Retransmits}, {&final.CPU, earlier.CPU},
	} {
		*c.final = max(*c.final, c.earlier)
	}
	for k, n := range earlier.RoundTrips {
		final.RoundTrips[k] = max(final.RoundTrips[k], n)
	}
	final.Counted = final.Counted || earlier.Counted
	return final
}

// totals sums containers by name, so that what short ones used is neither lost nor counted twice. Not safe for concurrent
// use.
type totals struct {
	// past is what ended containers used, by name.
	past map[name]*past
	// counted are the instances in it, with the time when they were put there.
	counted map[instance]time.Time
	// seen are the last readings of those that are not.
	seen map[instance]sighting
}

type past struct {
	usage
	// ended is when the last container of the name did.
	ended time.Time
}

type sighting struct {
	last ledger.Tally
	at   time.Time
}

// total is one name's row.
type total struct {
	name
	usage
	// live says how many containers have the name now. Memory and open connections are theirs.
	live int
}

func newTotals() *totals {
	return &totals{past: map[name]*past{}, counted: map[instance]time.Time{}, seen: map[instance]sighting{}}
}

// update takes what lives and what has ended, asked for in this order, and returns a row for each name.
func (t *totals) update(now time.Time, live []node.Container, exits []ledger.Exit) []total {
	there := make(map[instance]bool, len(exits))
	for _, x := range exits {
		key := instance{x.CgroupID, x.Started.UnixNano()}
		there[key] = true
		if _, done := t.counted[key]; !done {
			t.end(now, key, atLeast(x.Tally, t.seen[key].last), x.Ended)
		}
	}
	for _, c := range live {
		key := instance{c.CgroupID, c.Started.UnixNano()}
		if _, done := t.counted[key]; !done {
			t.seen[key] = sighting{c.Tally, now}
		}
	}
	for key, s := range t.seen {
		if now.Sub(s.at) >= limbo {
			t.end(now, key, s.last, s.at)
		}
	}
	for key, at := range t.counted {
		if !there[key] && now.Sub(at) > keep {
			delete(t.counted, key)
		}
	}
	return t.rows(now)
}

// end counts a container that is no more.
func (t *totals) end(now time.Time, key instance, c ledger.Tally, at time.Time) {
	t.counted[key] = now
	delete(t.seen, key)
	n := name{c.Namespace, c.Pod, c.Container}
	p := t.past[n]
	if p == nil {
		p = new(past)
		t.past[n] = p
	}
	p.add(c)
	if at.After(p.ended) {
		p.ended = at
	}
}

// rows forgets names that ended long ago, or too many, and returns the others'.
func (t *totals) rows(now time.Time) []total {
	alive := map[name]*total{}
	for _, s := range t.seen {
		n := name{s.last.Namespace, s.last.Pod, s.last.Container}
		row := alive[n]
		if row == nil {
			row = &total{name: n}
			if p := t.past[n]; p != nil {
				row.usage = p.usage
			}
			alive[n] = row
		}
		row.add(s.last)
		if !s.at.Equal(now) {
			continue // it is gone, and its record is not there yet
		}
		row.Memory += s.last.Memory
		row.ConnectionsOpen += s.last.ConnectionsOpen
		row.live++
	}
	rows := make([]total, 0, len(alive)+len(t.past))
	for _, row := range alive {
		rows = append(rows, *row)
	}
	var ended []name
	for n := range t.past {
		if alive[n] == nil {
			ended = append(ended, n)
		}
	}
	slices.SortFunc(ended, func(a, b name) int { return t.past[b].ended.Compare(t.past[a].ended) })
	for k, n := range ended {
		if k >= maxEnded || now.Sub(t.past[n].ended) > keep {
			delete(t.past, n)
			continue
		}
		rows = append(rows, total{name: n, usage: t.past[n].usage})
	}
	return rows
}
