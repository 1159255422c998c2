package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/shim/node"
)

// record is a recorder with these flows.
type record struct {
	flows   []node.Flow
	lost    uint64
	lostErr error
}

func (r *record) Recent() ([]node.Flow, error) { return r.flows, nil }
func (r *record) Lost() (uint64, error)        { return r.lost, r.lostErr }

func connection(pod string, seq uint64) node.Flow {
	rtt := int64(45)
	return node.Flow{
		Namespace: "default", Pod: pod, Container: pod, ID: pod + "-id", Seq: seq, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Kind: flow.KindConn, Direction: flow.Out, Protocol: "tcp",
		Local: netip.MustParseAddrPort("10.0.0.1:40000"), Peer: netip.MustParseAddrPort("10.0.0.2:80"),
		Connection: &node.Connection{TxBytes: 1500, RxBytes: 20, RTT: &rtt, Duration: 2500, Retransmits: 3, Verdict: flow.OK},
	}
}

// printed shows r's flows and returns what each look printed.
func printed(t *testing.T, p *flowPrinter, r recorder) (lines []string, missed uint64) {
	t.Helper()
	var out bytes.Buffer
	p.out = &out
	missed, err := p.show(r)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line)[1:], " ")) // without the time, which is local
	}
	return lines, missed
}

func TestFlowTable(t *testing.T) {
	redirected := connection("web", 2)
	original := netip.MustParseAddrPort("[2001:db8::1]:443")
	redirected.Original, redirected.RTT, redirected.Container = &original, nil, "side"
	redirected.Verdict, redirected.Kind = flow.Redirected, flow.KindOpen
	failed := connection("web", 3)
	failed.Verdict, failed.Error = flow.Failed, "connection refused"
	question := connection("web", 4)
	question.Connection, question.Kind, question.Protocol = nil, flow.KindDNS, "udp"
	question.DNS = &flow.DNS{Name: "example.org.", Type: "A"}
	answer := question
	answer.Seq, answer.Pod, answer.Container = 5, "", ""
	answer.DNS = &flow.DNS{Name: "evil\x1b.org.", Type: "A", Response: true, RCode: "NOERROR", Addresses: []string{"192.0.2.1"}, Truncated: true}

	got, missed := printed(t, &flowPrinter{print: writeFlow}, &record{flows: []node.Flow{connection("web", 1), redirected, failed, question, answer}})
	want := []string{
		"web out tcp 10.0.0.1:40000 10.0.0.2:80 1.5kB 20B 45µs 3 2.5ms ok",
		"web/side out open 10.0.0.1:40000 [2001:db8::1]:443 by 10.0.0.2:80 1.5kB 20B - 3 2.5ms redirected",
		"web out tcp 10.0.0.1:40000 10.0.0.2:80 1.5kB 20B 45µs 3 2.5ms failed: connection refused",
		"web out dns 10.0.0.1:40000 10.0.0.2:80 A example.org.?",
		"? out dns 10.0.0.1:40000 10.0.0.2:80 A evil?.org. NOERROR 192.0.2.1 (cut)",
	}
	if diff := cmp.Diff(want, got); diff != "" || missed != 0 {
		t.Errorf("missed %d (-want +got):\n%s", missed, diff)
	}
}

// TestFlowsFollow looks again and again: nothing is shown twice, and what came and went in between is counted.
func TestFlowsFollow(t *testing.T) {
	p := &flowPrinter{print: writeFlow, filter: node.Filter{Pod: "web"}}
	for k, look := range []struct {
		flows         []node.Flow
		lines, missed int
	}{
		{nil, 0, 0},
		{[]node.Flow{connection("web", 100), connection("db", 101)}, 1, 0},
		{[]node.Flow{connection("web", 100), connection("db", 101)}, 0, 0},
		{[]node.Flow{connection("db", 101), connection("web", 105)}, 1, 0}, // records of open connections are replaced
		{[]node.Flow{connection("web", 105+flowsKept+7)}, 1, 7},
	} {
		lines, missed := printed(t, p, &record{flows: look.flows})
		if len(lines) != look.lines || missed != uint64(look.missed) {
			t.Errorf("look %d: %d lines and %d missed, want %d and %d", k, len(lines), missed, look.lines, look.missed)
		}
	}
}

func TestFlowLosses(t *testing.T) {
	var told uint64
	for k, step := range []struct {
		r      record
		missed uint64
		want   string
	}{
		{record{}, 0, ""},
		{record{lostErr: fs.ErrNotExist}, 0, ""},
		{record{lost: 3}, 2, "hachi: 2 flow records came and went between two looks\nhachi: 3 flow records were lost since the node began to count\n"},
		{record{lost: 3}, 0, ""},
		{record{lost: 4}, 0, "hachi: 4 flow records were lost since the node began to count\n"},
	} {
		var say bytes.Buffer
		if err := tellLosses(&say, &step.r, step.missed, &told); err != nil {
			t.Fatal(err)
		}
		if say.String() != step.want {
			t.Errorf("step %d: %q, want %q", k, &say, step.want)
		}
	}
	if err := tellLosses(&bytes.Buffer{}, &record{lostErr: fs.ErrPermission}, 0, &told); err == nil {
		t.Error("an error is not told")
	}
}

// TestFlowJSON holds the names of the fields.
func TestFlowJSON(t *testing.T) {
	var out bytes.Buffer
	f := connection("web", 1)
	original := netip.MustParseAddrPort("10.9.9.9:443")
	f.Original = &original
	if err := writeFlowJSON(&out, &f); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%v: %q is not one line of JSON", err, &out)
	}
	want := map[string]any{
		"namespace": "default", "pod": "web", "container": "web", "id": "web-id", "seq": 1.0, "time": "2026-01-02T03:04:05Z",
		"kind": "conn", "direction": "out", "protocol": "tcp", "local": "10.0.0.1:40000", "peer": "10.0.0.2:80", "original_destination": "10.9.9.9:443",
		"tx_bytes": 1500.0, "rx_bytes": 20.0, "rtt_us": 45.0, "duration_us": 2500.0, "retransmits": 3.0, "verdict": "ok",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
