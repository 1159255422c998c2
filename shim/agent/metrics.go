package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/version"
	"github.com/hachi-run/hachi/shim/node"
)

// rttBounds are the upper bounds of the histogram's buckets, in microseconds: powers of four from a loopback's to a
// satellite's. Few, for each container has them all.
var rttBounds = []float64{16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}

var names = []string{"namespace", "pod", "container"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hachi_"+name, help, labels, nil)
}

// series is one metric of every container.
type series struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*total) float64
	// bpf says that it is counted by eBPF, and left out where that is not loaded.
	bpf bool
}

func counter(name, help string, value func(*total) float64) series {
	return series{desc("container_"+name, help, names...), prometheus.CounterValue, value, true}
}

var containerSeries = []series{
	{desc("container_cpu_usage_seconds_total", "CPU time used.", names...), prometheus.CounterValue, func(t *total) float64 { return float64(t.CPU) / 1e9 }, false},
	counter("network_receive_bytes_total", "Bytes received, at the IP layer.", func(t *total) float64 { return float64(t.RxBytes) }),
	counter("network_transmit_bytes_total", "Bytes sent, at the IP layer.", func(t *total) float64 { return float64(t.TxBytes) }),
	counter("network_receive_packets_total", "Packets received.", func(t *total) float64 { return float64(t.RxPackets) }),
	counter("network_transmit_packets_total", "Packets sent.", func(t *total) float64 { return float64(t.TxPackets) }),
	counter("tcp_connections_opened_total", "TCP connections that the container opened.", func(t *total) float64 { return float64(t.ConnectionsOpened) }),
	counter("tcp_connections_accepted_total", "TCP connections that the container accepted.", func(t *total) float64 { return float64(t.ConnectionsAccepted) }),
	counter("tcp_connections_failed_total", "Attempts to open a TCP connection that failed.", func(t *total) float64 { return float64(t.ConnectionsFailed) }),
	counter("tcp_connections_refused_total", "Attempts to open a TCP connection that policy refused.", func(t *total) float64 { return float64(t.ConnectionsRefused) }),
	counter("tcp_retransmitted_segments_total", "TCP segments that were sent again.", func(t *total) float64 { return float64(t.Retransmits) }),
	// Of containers that have ended there is none of these.
	{desc("container_memory_usage_bytes", "Memory in use, with the page cache.", names...), prometheus.GaugeValue, func(t *total) float64 { return float64(t.Memory) }, false},
	{desc("container_tcp_connections_open", "TCP connections that are open now.", names...), prometheus.GaugeValue, func(t *total) float64 { return float64(t.ConnectionsOpen) }, true},
}

var (
	rttDesc        = desc("container_tcp_round_trip_seconds", "Smoothed round trip times of TCP connections.", names...)
	containersDesc = desc("containers", "Containers that run.")
	lostDesc       = desc("flow_lost_total", "Flow records that the kernel could not hand over.")
	flowsDesc      = desc("flow_records_total", "Flow records that this agent has seen.")
	droppedDesc    = desc("flow_stream_dropped_total", "Lines of the flow stream that its readers were too slow for.")
	readersDesc    = desc("flow_stream_readers", "Readers of the flow stream.")
	loadedDesc     = desc("accounting_loaded", "Whether the accounting of this node is loaded, as the first pod does it (1), or not yet (0).")
	featureDesc    = desc("feature", "Whether this machine can do it (1), or hachi goes without (0).", "feature")
	buildDesc      = desc("build_info", "The build of the agent.", "version", "revision", "goversion")
	errorsDesc     = desc("read_errors_total", "Readings of this node that failed.", "what")
)

// collector reads the node when it is asked.
type collector struct {
	*Agent
	log *slog.Logger

	mu     sync.Mutex
	totals *totals           // guarded by mu
	failed map[string]uint64 // guarded by mu
	told   map[string]string // guarded by mu: the last error that was logged
}

func (a *Agent) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		&collector{Agent: a, log: a.log, totals: newTotals(), failed: map[string]uint64{"containers": 0, "exits": 0, "losses": 0}, told: map[string]string{}},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range containerSeries {
		ch <- s.desc
	}
	for _, d := range []*prometheus.Desc{rttDesc, containersDesc, lostDesc, flowsDesc, droppedDesc, readersDesc, loadedDesc, featureDesc, buildDesc, errorsDesc} {
		ch <- d
	}
}

// Collect reads the node. What cannot be read is left out and counted.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	rows, live, ok := c.read()
	if ok {
		for k := range rows {
			c.container(ch, &rows[k])
		}
		put(containersDesc, prometheus.GaugeValue, float64(live))
	}
	loaded := 1.0
	lost, err := c.o.Node.Lost()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		loaded = 0
	case errors.Is(err, observe.ErrUnsupported): // as hachi_feature tells
	case err != nil:
		c.fail("losses", err)
	}
	if err == nil || loaded == 0 {
		put(lostDesc, prometheus.CounterValue, float64(lost))
	}
	put(loadedDesc, prometheus.GaugeValue, loaded)
	put(flowsDesc, prometheus.CounterValue, float64(c.flows.Load()))
	put(droppedDesc, prometheus.CounterValue, float64(c.stream.dropped.Load()))
	put(readersDesc, prometheus.GaugeValue, float64(c.stream.count()))
	for _, f := range c.o.Features {
		works := 0.0
		if f.Works {
			works = 1
		}
		put(featureDesc, prometheus.GaugeValue, works, f.Name)
	}
	v := version.Get()
	put(buildDesc, prometheus.GaugeValue, 1, v.Version, v.Commit, v.Go)
	for what, n := range c.failed {
		put(errorsDesc, prometheus.CounterValue, float64(n), what)
	}
}

func (c *collector) read() (rows []total, live int, ok bool) {
	// The order matters: a container that ends in between is in the second list, and perhaps in both.
	containers, err := c.o.Node.Containers()
	if err != nil {
		c.fail("containers", err)
	}
	exits, errExits := c.o.Node.Exited()
	if errExits != nil {
		c.fail("exits", errExits)
	}
	if err != nil && len(containers) == 0 {
		return nil, 0, false // counters that vanish for a while are better than ones that go back to the ended containers'
	}
	return c.totals.update(time.Now(), containers, exits), len(containers), true
}

func (c *collector) fail(what string, err error) {
	c.failed[what]++
	if c.told[what] != err.Error() { // it is asked several times a minute
		c.told[what] = err.Error()
		c.log.Warn("cannot read the node", "what", what, "error", err)
	}
}

func (c *collector) container(ch chan<- prometheus.Metric, t *total) {
	labels := []string{t.namespace, t.pod, t.container}
	for _, s := range containerSeries {
		if s.kind == prometheus.GaugeValue && t.live == 0 || s.bpf && !t.Counted {
			continue
		}
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value(t), labels...)
	}
	if !t.Counted {
		return
	}
	count, sum, buckets := distribution(t.RoundTrips)
	ch <- prometheus.MustNewConstHistogram(rttDesc, count, sum, buckets, labels...)
}

// distribution turns the kernel's histogram, in microseconds, into Prometheus', in seconds. The sum is taken from the
// middles of the kernel's buckets, which are at most 25 % wide.
func distribution(h account.Histogram) (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(rttBounds))
	low, next := 0.0, 0
	for k, n := range h {
		high := float64(h.Bound(k))
		for next < len(rttBounds) && rttBounds[next] < high {
			buckets[rttBounds[next]/1e6] = count
			next++
		}
		count += n
		sum += float64(n) * (low + high) / 2 / 1e6
		low = high
	}
	for ; next < len(rttBounds); next++ {
		buckets[rttBounds[next]/1e6] = count
	}
	return count, sum, buckets
}

// promLog takes what promhttp has to say.
type promLog struct{ log *slog.Logger }

func (l promLog) Println(v ...any) { l.log.Warn("metrics", "error", v) }

var _ Node = (*node.Node)(nil)
