package agent

import (
	"errors"
	"io/fs"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

// scrape reads /metrics as Prometheus does, and complains about what promlint does.
func (s *served) scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	status, text := s.get(t, "/metrics")
	if status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "hachi_") {
			t.Errorf("promlint: %s: %s", p.Metric, p.Text)
		}
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// values flattens one family: the labels' values, joined by slashes, and the value.
func values(f *dto.MetricFamily) map[string]float64 {
	out := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		out[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return out
}

func TestMetrics(t *testing.T) {
	c := running(1, "web", 0)
	c.Reading = ledger.Reading{
		Namespace: "default", Pod: "web", Container: "main", ID: "1",
		RxBytes: 1, TxBytes: 2, RxPackets: 3, TxPackets: 4,
		ConnectionsOpened: 5, ConnectionsAccepted: 6, ConnectionsFailed: 7, ConnectionsRefused: 8, ConnectionsOpen: 9,
		Retransmits: 10, CPU: 1_500_000_000, Memory: 4096,
	}
	n := &fakeNode{containers: []node.Container{c}, exits: []ledger.Exit{ended(2, "job", 77, at(1))}, lost: 3}
	n.exits[0].Ended = n.exits[0].Ended.AddDate(100, 0, 0) // lately, whenever the test runs
	s := serve(t, n, Feature{"sock_ops", true}, Feature{"sk_lookup", false})
	got := s.scrape(t)

	web, job := "container=main namespace=default pod=web", "container=main namespace=default pod=job"
	for family, want := range map[string]map[string]float64{
		"hachi_container_cpu_usage_seconds_total":          {web: 1.5, job: 0},
		"hachi_container_memory_usage_bytes":               {web: 4096},
		"hachi_container_network_receive_bytes_total":      {web: 1, job: 77},
		"hachi_container_network_transmit_bytes_total":     {web: 2, job: 0},
		"hachi_container_network_receive_packets_total":    {web: 3, job: 1},
		"hachi_container_network_transmit_packets_total":   {web: 4, job: 0},
		"hachi_container_tcp_connections_opened_total":     {web: 5, job: 0},
		"hachi_container_tcp_connections_accepted_total":   {web: 6, job: 0},
		"hachi_container_tcp_connections_failed_total":     {web: 7, job: 0},
		"hachi_container_tcp_connections_refused_total":    {web: 8, job: 0},
		"hachi_container_tcp_connections_open":             {web: 9},
		"hachi_container_tcp_retransmitted_segments_total": {web: 10, job: 0},
		"hachi_containers":                                 {"": 1},
		"hachi_flow_lost_total":                            {"": 3},
		"hachi_accounting_loaded":                          {"": 1},
		"hachi_feature":                                    {"feature=sock_ops": 1, "feature=sk_lookup": 0},
		"hachi_read_errors_total":                          {"what=containers": 0, "what=exits": 0, "what=losses": 0},
		"hachi_flow_stream_readers":                        {"": 0},
		"hachi_flow_stream_dropped_total":                  {"": 0},
		"hachi_flow_records_total":                         {"": 0},
	} {
		if diff := cmp.Diff(want, values(got[family])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", family, diff)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "hachi_") && got[name].GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	if build := got["hachi_build_info"].GetMetric(); len(build) != 1 || build[0].GetGauge().GetValue() != 1 {
		t.Errorf("hachi_build_info: %v", build)
	}
}

// TestMetricsOfAnEmptyNode: nothing has ever run.
func TestMetricsOfAnEmptyNode(t *testing.T) {
	got := serve(t, &fakeNode{lostErr: fs.ErrNotExist}).scrape(t)
	if v := values(got["hachi_accounting_loaded"])[""]; v != 0 {
		t.Errorf("hachi_accounting_loaded is %v, want 0", v)
	}
	if _, there := got["hachi_container_network_receive_bytes_total"]; there {
		t.Error("there are containers")
	}
	if v, there := values(got["hachi_flow_lost_total"])[""]; !there || v != 0 {
		t.Errorf("hachi_flow_lost_total is %v, want 0", v)
	}
}

// TestMetricsWithoutBPF: what cgroups tell is shown, what eBPF would count is not shown as zero.
func TestMetricsWithoutBPF(t *testing.T) {
	c := running(1, "web", 0)
	c.Counted, c.CPU = false, 1e9
	n := &fakeNode{containers: []node.Container{c}, err: errors.New("nothing is loaded")}
	got := serve(t, n).scrape(t)
	if v := values(got["hachi_container_cpu_usage_seconds_total"])["container=main namespace=default pod=web"]; v != 1 {
		t.Errorf("CPU is %v s, want 1", v)
	}
	for _, family := range []string{"hachi_container_network_receive_bytes_total", "hachi_container_tcp_connections_open", "hachi_container_tcp_round_trip_seconds"} {
		if got[family] != nil {
			t.Errorf("%s is there", family)
		}
	}
	if v := values(got["hachi_read_errors_total"])["what=containers"]; v != 1 {
		t.Errorf("%v errors, want 1", v)
	}
}

// TestMetricsWhileTheNodeCannotBeRead: counters vanish rather than go back.
func TestMetricsWhileTheNodeCannotBeRead(t *testing.T) {
	n := &fakeNode{exits: []ledger.Exit{ended(2, "job", 77, at(1).AddDate(100, 0, 0))}, containers: []node.Container{running(1, "job", 10)}}
	s := serve(t, n)
	family := "hachi_container_network_receive_bytes_total"
	if v := values(s.scrape(t)[family]); len(v) != 1 {
		t.Fatalf("%v", v)
	}
	n.mu.Lock()
	n.containers = nil
	n.mu.Unlock()
	n.fail(errors.New("no more descriptors"))
	if v := values(s.scrape(t)[family]); len(v) != 0 {
		t.Errorf("unreadable node: %v", v)
	}
}

// TestDistribution puts samples of a known time into the kernel's buckets.
func TestDistribution(t *testing.T) {
	var h account.Histogram
	put := func(us uint64, n uint64) {
		for k := range h {
			if us < h.Bound(k) {
				h[k] += n
				return
			}
		}
	}
	put(10, 1)
	put(50, 2)
	put(5000, 3)
	put(3_000_000, 4)
	count, sum, buckets := distribution(h)
	if count != 10 {
		t.Errorf("count %d, want 10", count)
	}
	if want := 0.00001 + 2*0.00005 + 3*0.005 + 4*3; math.Abs(sum-want) > want/4 {
		t.Errorf("sum %v s, want %v within a quarter", sum, want)
	}
	want := map[float64]uint64{16e-6: 1, 64e-6: 3, 256e-6: 3, 1024e-6: 3, 4096e-6: 3, 16384e-6: 6, 65536e-6: 6, 262144e-6: 6, 1.048576: 6}
	for le, n := range want {
		found := false
		for bound, got := range buckets {
			if math.Abs(bound-le) < 1e-12 {
				found = got == n
			}
		}
		if !found {
			t.Errorf("le=%v: want %d in %v", le, n, buckets)
		}
	}
	if len(buckets) != len(want) {
		t.Errorf("%d buckets, want %d", len(buckets), len(want))
	}
}
