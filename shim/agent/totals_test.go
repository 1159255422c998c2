package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// at is a minute of the tests' day.
func at(minute int) time.Time { return epoch.Add(time.Duration(minute) * time.Minute) }

// running is a container of pod in cgroup, started at epoch, that has received so many bytes.
func running(cgroup uint64, pod string, rx uint64) node.Container {
	c := node.Container{CgroupID: cgroup, Started: epoch}
	c.Counted = true
	c.Namespace, c.Pod, c.Container, c.ID = "default", pod, "main", fmt.Sprint(cgroup)
	c.RxBytes, c.RxPackets, c.Memory, c.ConnectionsOpen = rx, 1, 100, 2
	c.RoundTrips = account.Histogram{5: rx}
	return c
}

// ended is its record.
func ended(cgroup uint64, pod string, rx uint64, when time.Time) ledger.Exit {
	return ledger.Exit{Tally: running(cgroup, pod, rx).Tally, CgroupID: cgroup, Started: epoch, Ended: when}
}

// shown are the rows that count: bytes received by pod, and how many containers live.
func shown(rows []total) map[string][2]uint64 {
	out := map[string][2]uint64{}
	for _, r := range rows {
		out[r.pod] = [2]uint64{r.RxBytes, uint64(r.live)}
	}
	return out
}

func TestTotals(t *testing.T) {
	type step struct {
		after time.Duration
		live  []node.Container
		exits []ledger.Exit
		want  map[string][2]uint64
	}
	for name, steps := range map[string][]step{
		"a container that ends keeps its counters for an hour": {
			{0, []node.Container{running(1, "a", 10)}, nil, map[string][2]uint64{"a": {10, 1}}},
			{time.Minute, nil, []ledger.Exit{ended(1, "a", 12, at(1))}, map[string][2]uint64{"a": {12, 0}}},
			{60 * time.Minute, nil, []ledger.Exit{ended(1, "a", 12, at(1))}, map[string][2]uint64{"a": {12, 0}}},
			{62 * time.Minute, nil, []ledger.Exit{ended(1, "a", 12, at(1))}, map[string][2]uint64{}},
		},
		"one that nobody saw counts by its record": {
			{0, nil, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
		},
		"records of before the agent count when they are not old": {
			{2 * time.Hour, nil, []ledger.Exit{ended(1, "a", 1, at(0)), ended(2, "b", 2, at(119))}, map[string][2]uint64{"b": {2, 0}}},
		},
		"a name that lives goes on from what it had, however old": {
			{2 * time.Hour, []node.Container{running(2, "a", 5)}, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {17, 1}}},
		},
		"in both lists it counts once": {
			{0, []node.Container{running(1, "a", 10)}, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
			{time.Second, []node.Container{running(1, "a", 10)}, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
		},
		"between two lists it stays as it was": {
			{0, []node.Container{running(1, "a", 10)}, nil, map[string][2]uint64{"a": {10, 1}}},
			{time.Second, nil, nil, map[string][2]uint64{"a": {10, 0}}},
			{2 * time.Second, nil, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
		},
		"without a record its last reading counts, once": {
			{0, []node.Container{running(1, "a", 10)}, nil, map[string][2]uint64{"a": {10, 1}}},
			{5 * time.Minute, nil, nil, map[string][2]uint64{"a": {10, 0}}},
			{6 * time.Minute, nil, []ledger.Exit{ended(1, "a", 12, at(6))}, map[string][2]uint64{"a": {10, 0}}},
		},
		"a record with less than was seen does not count back": {
			{0, []node.Container{running(1, "a", 10)}, nil, map[string][2]uint64{"a": {10, 1}}},
			{time.Minute, nil, []ledger.Exit{ended(1, "a", 0, at(1))}, map[string][2]uint64{"a": {10, 0}}},
		},
		"started again under its name it goes on": {
			{0, []node.Container{running(1, "a", 10)}, nil, map[string][2]uint64{"a": {10, 1}}},
			{time.Minute, []node.Container{running(2, "a", 3)}, []ledger.Exit{ended(1, "a", 12, at(1))}, map[string][2]uint64{"a": {15, 1}}},
		},
		"two of one name are summed": {
			{0, []node.Container{running(1, "a", 10), running(2, "a", 1)}, nil, map[string][2]uint64{"a": {11, 2}}},
		},
		"records that the ledger dropped are not counted again": {
			{0, nil, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
			{time.Minute, nil, nil, map[string][2]uint64{"a": {12, 0}}},
			{2 * time.Minute, nil, []ledger.Exit{ended(1, "a", 12, at(0))}, map[string][2]uint64{"a": {12, 0}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			totals := newTotals()
			for k, s := range steps {
				rows := totals.update(epoch.Add(s.after), s.live, s.exits)
				if diff := cmp.Diff(s.want, shown(rows)); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", k, diff)
				}
				for _, r := range rows { // running gives as many of these as of those
					if r.RoundTrips[5] != r.RxBytes {
						t.Errorf("step %d: %s has %d round trips, want %d", k, r.pod, r.RoundTrips[5], r.RxBytes)
					}
				}
			}
		})
	}
}

// TestTotalsGauges: memory and open connections are those of the living, histograms of all.
func TestTotalsGauges(t *testing.T) {
	totals := newTotals()
	totals.update(at(0), []node.Container{running(1, "a", 10)}, nil)
	rows := totals.update(at(1), []node.Container{running(2, "a", 3)}, []ledger.Exit{ended(1, "a", 12, at(1))})
	if len(rows) != 1 {
		t.Fatalf("%d rows, want one", len(rows))
	}
	if r := rows[0]; r.Memory != 100 || r.ConnectionsOpen != 2 || !r.Counted {
		t.Errorf("memory %d, open %d, counted %v; want those of one container", r.Memory, r.ConnectionsOpen, r.Counted)
	}
	if got := rows[0].RoundTrips[5]; got != 15 {
		t.Errorf("%d round trips, want 12 of the one that ended and 3", got)
	}
}

// TestTotalsAreBounded starts many short pods, each with a name of its own.
func TestTotalsAreBounded(t *testing.T) {
	totals := newTotals()
	var rows []total
	for round := range 3 {
		var exits []ledger.Exit
		for k := round * maxEnded; k < (round+1)*maxEnded; k++ {
			exits = append(exits, ended(uint64(k+1), fmt.Sprint("pod-", k), 1, at(0).Add(time.Duration(k))))
		}
		rows = totals.update(at(round), nil, exits)
	}
	if len(rows) != maxEnded || len(totals.past) != maxEnded {
		t.Errorf("%d rows and %d names, want %d", len(rows), len(totals.past), maxEnded)
	}
	if _, newest := shown(rows)[fmt.Sprint("pod-", 3*maxEnded-1)]; !newest {
		t.Error("the newest is gone")
	}
	totals.update(at(0).Add(3*time.Hour), nil, nil)
	if len(totals.past)+len(totals.counted)+len(totals.seen) != 0 {
		t.Errorf("after hours: %d names, %d instances, %d sightings; want none", len(totals.past), len(totals.counted), len(totals.seen))
	}
}
