package cgroup

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// statsV2 reads what the controllers of a cgroup2 directory count.
func statsV2(dir string) (*metrics.V2, error) {
	c := newCounters()
	c.dir = dir
	m := &metrics.V2{
		Pids:         &metrics.Pids{Current: c.number("pids.current"), Limit: c.number("pids.max")},
		Cpu:          c.cpuV2(),
		Memory:       c.memoryV2(),
		MemoryEvents: c.memoryEventsV2(),
		Io:           &metrics.V2IO{Usage: c.ioV2(), Psi: c.pressure("io.pressure")},
		Hugetlb:      c.hugetlbV2(),
	}
	return m, c.err
}

func (c *counters) cpuV2() *metrics.V2CPU {
	m := new(metrics.V2CPU)
	c.keys("cpu.stat",
		field{"usage_usec", &m.UsageUsec},
		field{"user_usec", &m.UserUsec},
		field{"system_usec", &m.SystemUsec},
		field{"nr_periods", &m.NrPeriods},
		field{"nr_throttled", &m.NrThrottled},
		field{"throttled_usec", &m.ThrottledUsec},
		field{"nr_bursts", &m.NrBursts},
		field{"burst_usec", &m.BurstUsec},
	)
	m.Psi = c.pressure("cpu.pressure")
	return m
}

func (c *counters) memoryV2() *metrics.V2Memory {
	m := &metrics.V2Memory{
		Usage:        c.number("memory.current"),
		UsageLimit:   c.number("memory.max"),
		MaxUsage:     c.number("memory.peak"),
		SwapUsage:    c.number("memory.swap.current"),
		SwapLimit:    c.number("memory.swap.max"),
		SwapMaxUsage: c.number("memory.swap.peak"),
	}
	if m.UsageLimit == 0 {
		m.UsageLimit = math.MaxUint64 // CRI subtracts the usage from it
	}
	if c.keys("memory.stat",
		field{"anon", &m.Anon},
		field{"file", &m.File},
		field{"kernel_stack", &m.KernelStack},
		field{"sock", &m.Sock},
		field{"shmem", &m.Shmem},
		field{"file_mapped", &m.FileMapped},
		field{"file_dirty", &m.FileDirty},
		field{"file_writeback", &m.FileWriteback},
		field{"anon_thp", &m.AnonThp},
		field{"inactive_anon", &m.InactiveAnon},
		field{"active_anon", &m.ActiveAnon},
		field{"inactive_file", &m.InactiveFile},
		field{"active_file", &m.ActiveFile},
		field{"unevictable", &m.Unevictable},
		field{"slab_reclaimable", &m.SlabReclaimable},
		field{"slab_unreclaimable", &m.SlabUnreclaimable},
		field{"slab", &m.Slab},
		field{"workingset_nodereclaim", &m.WorkingsetNodereclaim},
		field{"pgscan", &m.Pgscan},
		field{"pgsteal", &m.Pgsteal},
		field{"pgfault", &m.Pgfault},
		field{"pgmajfault", &m.Pgmajfault},
		field{"pgrefill", &m.Pgrefill},
		field{"pgactivate", &m.Pgactivate},
		field{"pgdeactivate", &m.Pgdeactivate},
		field{"pglazyfree", &m.Pglazyfree},
		field{"pglazyfreed", &m.Pglazyfreed},
		field{"thp_fault_alloc", &m.ThpFaultAlloc},
		field{"thp_collapse_alloc", &m.ThpCollapseAlloc},
	) {
		m.Psi = c.pressure("memory.pressure") // a file that is there without a memory controller too
	}
	return m
}

// memoryEventsV2 is nil without a memory controller.
func (c *counters) memoryEventsV2() *metrics.V2MemoryEvents {
	m := new(metrics.V2MemoryEvents)
	if !c.keys("memory.events",
		field{"low", &m.Low},
		field{"high", &m.High},
		field{"max", &m.Max},
		field{"oom", &m.Oom},
		field{"oom_kill", &m.OomKill},
		field{"oom_group_kill", &m.OomGroupKill},
	) {
		return nil
	}
	return m
}

// ioV2 reads lines "major:minor rbytes=1 wbytes=2 ...", one for each device.
func (c *counters) ioV2() []*metrics.V2IOEntry {
	const file = "io.stat"
	var entries []*metrics.V2IOEntry
	for line := range bytes.SplitSeq(c.text(file), []byte("\n")) {
		number, counts, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			continue // a device without requests
		}
		d := c.device(file, number)
		e := &metrics.V2IOEntry{Major: d.major, Minor: d.minor}
		c.pairs(file, counts, field{"rbytes", &e.Rbytes}, field{"wbytes", &e.Wbytes}, field{"rios", &e.Rios}, field{"wios", &e.Wios})
		entries = append(entries, e)
	}
	return entries
}

func (c *counters) hugetlbV2() []*metrics.V2Hugetlb {
	var all []*metrics.V2Hugetlb
	for _, size := range hugepageSizes() {
		h := &metrics.V2Hugetlb{
			Current:  c.number("hugetlb." + size + ".current"),
			Max:      c.number("hugetlb." + size + ".max"),
			Pagesize: size,
		}
		c.keys("hugetlb."+size+".events", field{"max", &h.Failcnt})
		all = append(all, h)
	}
	return all
}

// pressure reads a file with lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ...", as far as it has
// them; nil where the kernel does not account for it.
func (c *counters) pressure(file string) *metrics.V2Pressure {
	text := c.text(file)
	if text == nil {
		return nil
	}
	p := new(metrics.V2Pressure)
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		who, values, _ := bytes.Cut(line, []byte(" "))
		switch string(who) {
		case "some":
			p.Some = c.stall(file, values)
		case "full":
			p.Full = c.stall(file, values)
		}
	}
	return p
}

func (c *counters) stall(file string, values []byte) *metrics.V2Stall {
	s := new(metrics.V2Stall)
	for pair := range bytes.FieldsSeq(values) {
		key, value, _ := bytes.Cut(pair, []byte("="))
		var average *float64
		switch string(key) {
		case "avg10":
			average = &s.Avg10
		case "avg60":
			average = &s.Avg60
		case "avg300":
			average = &s.Avg300
		case "total":
			s.Total = c.parse(file, value)
			continue
		default:
			continue
		}
		n, err := strconv.ParseFloat(string(value), 64)
		if err != nil {
			c.fail(file, fmt.Errorf("line %q: %w", values, err))
		}
		*average = n
	}
	return s
}
