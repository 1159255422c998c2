package cgroup

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// tick is the unit of cpuacct.stat: USER_HZ is 100 wherever Go runs.
const tick = uint64(10 * time.Millisecond)

// statsV1 reads what each v1 controller counts.
func (g *Group) statsV1() (*metrics.V1, error) {
	m := &metrics.V1{Cpu: &metrics.V1CPU{Usage: new(metrics.V1CPUUsage), Throttling: new(metrics.V1Throttling)}}
	c := newCounters()
	for i, tree := range g.m.host.v1 {
		c.dir = g.v1[i]
		for _, controller := range tree.controllers {
			switch controller {
			case "blkio":
				m.Blkio = c.blkioV1()
			case "cpu":
				c.throttlingV1(m.Cpu.Throttling)
			case "cpuacct":
				c.cpuV1(m.Cpu.Usage)
			case "memory":
				m.Memory, m.MemoryOomControl = c.memoryV1(), c.oomV1()
			case "pids":
				m.Pids = c.pidsV1()
			case "hugetlb":
				m.Hugetlb = c.hugetlbV1()
			}
		}
	}
	return m, c.err
}

func (c *counters) throttlingV1(t *metrics.V1Throttling) {
	c.keys("cpu.stat", field{"nr_periods", &t.Periods}, field{"nr_throttled", &t.ThrottledPeriods}, field{"throttled_time", &t.ThrottledTime})
}

func (c *counters) cpuV1(u *metrics.V1CPUUsage) {
	u.Total = c.number("cpuacct.usage")
	c.keys("cpuacct.stat", field{"user", &u.User}, field{"system", &u.Kernel})
	u.User, u.Kernel = u.User*tick, u.Kernel*tick
	const each = "cpuacct.usage_percpu"
	text := c.text(each)
	u.PerCpu = make([]uint64, 0, bytes.Count(text, []byte(" "))+1)
	for n := range bytes.FieldsSeq(text) {
		u.PerCpu = append(u.PerCpu, c.parse(each, n))
	}
}

func (c *counters) memoryV1() *metrics.V1Memory {
	m := new(metrics.V1Memory)
	c.keys("memory.stat",
		field{"cache", &m.Cache},
		field{"rss", &m.Rss},
		field{"rss_huge", &m.RssHuge},
		field{"mapped_file", &m.MappedFile},
		field{"dirty", &m.Dirty},
		field{"writeback", &m.Writeback},
		field{"pgpgin", &m.PgPgIn},
		field{"pgpgout", &m.PgPgOut},
		field{"pgfault", &m.PgFault},
		field{"pgmajfault", &m.PgMajFault},
		field{"inactive_anon", &m.InactiveAnon},
		field{"active_anon", &m.ActiveAnon},
		field{"inactive_file", &m.InactiveFile},
		field{"active_file", &m.ActiveFile},
		field{"unevictable", &m.Unevictable},
		field{"hierarchical_memory_limit", &m.HierarchicalMemoryLimit},
		field{"hierarchical_memsw_limit", &m.HierarchicalSwapLimit},
		field{"total_cache", &m.TotalCache},
		field{"total_rss", &m.TotalRss},
		field{"total_rss_huge", &m.TotalRssHuge},
		field{"total_mapped_file", &m.TotalMappedFile},
		field{"total_dirty", &m.TotalDirty},
		field{"total_writeback", &m.TotalWriteback},
		field{"total_pgpgin", &m.TotalPgPgIn},
		field{"total_pgpgout", &m.TotalPgPgOut},
		field{"total_pgfault", &m.TotalPgFault},
		field{"total_pgmajfault", &m.TotalPgMajFault},
		field{"total_inactive_anon", &m.TotalInactiveAnon},
		field{"total_active_anon", &m.TotalActiveAnon},
		field{"total_inactive_file", &m.TotalInactiveFile},
		field{"total_active_file", &m.TotalActiveFile},
		field{"total_unevictable", &m.TotalUnevictable},
	)
	m.Usage = c.memoryEntryV1("memory.")
	m.Swap = c.memoryEntryV1("memory.memsw.")
	m.Kernel = c.memoryEntryV1("memory.kmem.")
	m.KernelTcp = c.memoryEntryV1("memory.kmem.tcp.")
	return m
}

// memoryEntryV1 reads the four files of one kind of memory.
func (c *counters) memoryEntryV1(prefix string) *metrics.V1MemoryEntry {
	return &metrics.V1MemoryEntry{
		Limit:   c.number(prefix + "limit_in_bytes"),
		Usage:   c.number(prefix + "usage_in_bytes"),
		Max:     c.number(prefix + "max_usage_in_bytes"),
		Failcnt: c.number(prefix + "failcnt"),
	}
}

func (c *counters) oomV1() *metrics.V1OOMControl {
	o := new(metrics.V1OOMControl)
	c.keys("memory.oom_control", field{"oom_kill_disable", &o.OomKillDisable}, field{"under_oom", &o.UnderOom}, field{"oom_kill", &o.OomKill})
	return o
}

func (c *counters) pidsV1() *metrics.Pids {
	p := &metrics.Pids{Current: c.number("pids.current"), Limit: c.number("pids.max")}
	if p.Limit == math.MaxUint64 {
		p.Limit = 0 // which is how containerd's v1 metrics say "none"
	}
	return p
}

func (c *counters) hugetlbV1() []*metrics.V1Hugetlb {
	var all []*metrics.V1Hugetlb
	for _, size := range hugepageSizes() {
		prefix := "hugetlb." + size + "."
		all = append(all, &metrics.V1Hugetlb{
			Usage:    c.number(prefix + "usage_in_bytes"),
			Max:      c.number(prefix + "max_usage_in_bytes"),
			Failcnt:  c.number(prefix + "failcnt"),
			Pagesize: size,
		})
	}
	return all
}

// blkioV1 reads what the throttling layer counts, which sees the requests to every device.
func (c *counters) blkioV1() *metrics.V1BlkIO {
	b := &metrics.V1BlkIO{
		IoServicedRecursive:     c.devicesV1("blkio.throttle.io_serviced"),
		IoServiceBytesRecursive: c.devicesV1("blkio.throttle.io_service_bytes"),
	}
	if len(b.IoServicedRecursive)+len(b.IoServiceBytesRecursive) == 0 {
		return b
	}
	names := c.deviceNames()
	for _, entries := range [][]*metrics.V1BlkIOEntry{b.IoServicedRecursive, b.IoServiceBytesRecursive} {
		for _, e := range entries {
			e.Device = names[device{e.Major, e.Minor}]
		}
	}
	return b
}

// devicesV1 reads a file with lines "major:minor operation number" and a sum as the last, which is left out.
func (c *counters) devicesV1(file string) []*metrics.V1BlkIOEntry {
	var entries []*metrics.V1BlkIOEntry
	for line := range bytes.SplitSeq(c.text(file), []byte("\n")) {
		words := bytes.Fields(line)
		if len(words) == 0 || len(words) == 2 && string(words[0]) == "Total" {
			continue
		}
		if len(words) != 3 {
			c.fail(file, fmt.Errorf("line %q: not an operation of a device and its number", line))
			return nil
		}
		d := c.device(file, words[0])
		entries = append(entries, &metrics.V1BlkIOEntry{Op: string(words[1]), Major: d.major, Minor: d.minor, Value: c.parse(file, words[2])})
	}
	return entries
}

// device is a block device's number.
type device struct{ major, minor uint64 }

// device parses "major:minor".
func (c *counters) device(file string, text []byte) device {
	major, minor, ok := bytes.Cut(text, []byte(":"))
	if !ok {
		c.fail(file, fmt.Errorf("%q: not a device's number", text))
		return device{}
	}
	return device{major: c.parse(file, major), minor: c.parse(file, minor)}
}

// deviceNames reads which device has which number: "/dev/sda".
func (c *counters) deviceNames() map[device]string {
	// This file comes in pieces, other than control files.
	text, err := os.ReadFile("/proc/partitions")
	if err != nil && c.err == nil {
		c.err = err
	}
	names := make(map[device]string)
	for line := range strings.Lines(string(text)) {
		var d device
		var blocks uint64
		var name string
		if _, err := fmt.Sscan(line, &d.major, &d.minor, &blocks, &name); err == nil { // but for the heading
			names[d] = "/dev/" + name
		}
	}
	return names
}
