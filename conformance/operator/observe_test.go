package operator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/shim/agent/flowpb"
)

// calls is how many connections the tests make.
const calls = 5

// reading is what `hachi top --once --json` says of one container, by the names that scripts use.
type reading map[string]any

func (s *site) top(t *testing.T, id string) reading {
	t.Helper()
	var all []reading
	if err := json.Unmarshal([]byte(s.hachi(t, "top", "--once", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r["namespace"] == s.namespace && r["id"] == id {
			return r
		}
	}
	return nil
}

// record is a line of `hachi flows --json`.
type record struct {
	Namespace, Pod, Container, ID, Kind, Direction, Protocol, Local, Peer, Verdict string

	TxBytes uint64 `json:"tx_bytes"`
	RxBytes uint64 `json:"rx_bytes"`
}

func parseFlows(t *testing.T, text string) []record {
	t.Helper()
	var out []record
	for _, line := range lines(text) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, r)
	}
	return out
}

// TestTopAndFlows calls a service and looks at what the commands say of it, while it runs and when it is gone.
func TestTopAndFlows(t *testing.T) {
	perVersion(t, func(t *testing.T, version string) {
		s := newSite(t, version, daemon.Options{})
		w := s.serve(t, "web")
		var answer int
		for range calls {
			answer = len(w.get(t))
		}
		eventually(t, func() string {
			r := s.top(t, "web")
			if r == nil {
				return "top does not show the container"
			}
			for name, want := range map[string]any{
				"pod": "web", "container": "web", "connections_accepted": float64(calls), "connections_opened": 0.0, "connections_failed": 0.0,
				"connections_refused": 0.0, "connections_open": 0.0,
			} {
				if r[name] != want {
					return fmt.Sprintf("%s is %v, want %v", name, r[name], want)
				}
			}
			return ""
		})
		r := s.top(t, "web")
		for _, name := range []string{"rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "cpu_ns", "memory_bytes"} {
			if n, number := r[name].(float64); !number || n <= 0 {
				t.Errorf("%s is %v", name, r[name])
			}
		}
		if n := r["tx_bytes"].(float64); n < float64(calls*answer) {
			t.Errorf("tx_bytes is %v, for %d answers of %d bytes", n, calls, answer)
		}
		rtt, _ := r["rtt_us"].(map[string]any)
		if p50, number := rtt["p50"].(float64); !number || p50 <= 0 {
			t.Errorf("rtt_us is %v after %d connections", r["rtt_us"], calls)
		}
		table := s.hachi(t, "top", "--once")
		if !regexp.MustCompile(`(?m)^` + s.namespace + `\s+web\s+\d`).MatchString(table) {
			t.Errorf("the table shows no rates:\n%s", table)
		}

		flows := func() []record {
			return parseFlows(t, s.hachi(t, "flows", "--once", "--json", "--namespace", s.namespace, "--pod", "web"))
		}
		check := func(when string) {
			list := flows()
			if len(list) != calls {
				t.Errorf("%s: %d flow records, want %d", when, len(list), calls)
			}
			for _, f := range list {
				if f.Container != "web" || f.ID != "web" || f.Kind != "conn" || f.Direction != "in" || f.Protocol != "tcp" || f.Verdict != "ok" || f.Local != w.address {
					t.Errorf("%s: %+v", when, f)
				}
				if f.TxBytes <= uint64(answer) || f.RxBytes == 0 {
					t.Errorf("%s: %d bytes out and %d in, for an answer of %d", when, f.TxBytes, f.RxBytes, answer)
				}
			}
		}
		check("while it runs")
		w.remove(t)
		check("when it is gone")
		if r := s.top(t, "web"); r != nil {
			t.Errorf("top shows what is gone: %v", r)
		}
		if text := s.hachi(t, "flows", "--namespace", s.namespace, "--pod", "nobody"); len(lines(text)) != 1 {
			t.Errorf("flows of a pod that never was:\n%s", text)
		}
	})
}

// process is a command of hachi's that runs on.
type process struct {
	cmd *exec.Cmd
	out <-chan string
}

// begin starts a command; its lines, of stdout or stderr, come from out, which ends with it.
func (s *site) begin(t *testing.T, stderr bool, args ...string) *process {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "hachi"), args...)
	open := cmd.StdoutPipe
	if stderr {
		open = cmd.StderrPipe
	}
	pipe, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			out <- sc.Text()
		}
	}()
	p := &process{cmd, out}
	t.Cleanup(func() { p.end(t) })
	return p
}

// end asks the command to end as a service manager does; it must exit with 0. A second call does nothing.
func (p *process) end(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for range p.out {
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", p.cmd.Args[1], err)
	}
}

// await returns the first line that matches, with its groups.
func (p *process) await(t *testing.T, pattern string) []string {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line, more := <-p.out:
			if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
				return m
			}
			if !more {
				t.Fatalf("%s ended without a line like %s", p.cmd.Args[1], pattern)
			}
		case <-late:
			t.Fatalf("%s: no line like %s within 20 s", p.cmd.Args[1], pattern)
		}
	}
}

// TestFlowsFollow watches a service as an operator does.
func TestFlowsFollow(t *testing.T) {
	perVersion(t, func(t *testing.T, version string) {
		s := newSite(t, version, daemon.Options{})
		w := s.serve(t, "web")
		p := s.begin(t, false, "flows", "--follow", "--json", "--namespace", s.namespace)
		for range 3 {
			w.get(t)
			p.await(t, `"pod":"web".*"direction":"in".*"verdict":"ok"`)
		}
		p.end(t)
	})
}

// TestAgent scrapes the agent, follows its stream, and ends it; a container that is gone stays in its counters.
func TestAgent(t *testing.T) {
	perVersion(t, func(t *testing.T, version string) {
		s := newSite(t, version, daemon.Options{})
		w := s.serve(t, "web")
		p := s.begin(t, true, "agent", "--listen", "127.0.0.1:0")
		url := "http://" + p.await(t, `msg=serving address=(\S+)`)[1]
		defer http.DefaultClient.CloseIdleConnections()

		stream, err := http.Get(url + "/flows?follow=1&pod=web&namespace=" + s.namespace)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		lines := make(chan string, 100)
		go scan(bufio.NewScanner(stream.Body), lines)
		// The agent serves a moment before it follows; what was over by then is not in the stream.
		made := 0.
		for following := false; !following; made++ {
			if made == 30 {
				t.Fatal("the stream brought nothing")
			}
			w.get(t)
			select {
			case <-lines:
				following = true
			case <-time.After(time.Second):
			}
		}
		for range calls {
			w.get(t)
			made++
		}
		for range calls {
			select {
			case line, open := <-lines:
				if !open {
					t.Fatal("the stream ended")
				}
				if f := parseFlows(t, line)[0]; f.Pod != "web" || f.Direction != "in" || f.Verdict != "ok" {
					t.Errorf("streamed %+v", f)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a connection is not in the stream")
			}
		}
		accepted := func() float64 { return s.metric(t, url, "hachi_container_tcp_connections_accepted_total", "web") }
		if got := accepted(); got != made {
			t.Errorf("%v connections accepted, want %v", got, made)
		}
		if got := s.called(t, strings.TrimPrefix(url, "http://"), "web"); got != int(made) {
			t.Errorf("gRPC knows of %d connections, want %v", got, made)
		}
		sent := s.metric(t, url, "hachi_container_network_transmit_bytes_total", "web")
		if sent <= 0 || s.metric(t, url, "hachi_container_memory_usage_bytes", "web") <= 0 || s.metric(t, url, "hachi_container_cpu_usage_seconds_total", "web") <= 0 {
			t.Error("traffic, memory or CPU is missing")
		}
		w.remove(t)
		if got := accepted(); got != made {
			t.Errorf("when it is gone: %v connections accepted, want %v", got, made)
		}
		if now := s.metric(t, url, "hachi_container_network_transmit_bytes_total", "web"); now < sent {
			t.Errorf("when it is gone: %v bytes sent, and %v before", now, sent)
		}
		again := s.serve(t, "web")
		again.get(t)
		eventually(t, func() string {
			if got := accepted(); got != made+1 {
				return fmt.Sprintf("started again: %v connections accepted, want %v", got, made+1)
			}
			return ""
		})
		if reply, err := http.Get(url + "/healthz"); err != nil {
			t.Error(err)
		} else {
			body, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			if reply.StatusCode != http.StatusOK || string(body) != "ok\n" {
				t.Errorf("healthz: %s, %s", reply.Status, body)
			}
		}
		p.end(t)
		for line := range lines {
			if !strings.Contains(line, `"pod":"web"`) {
				t.Errorf("after its end the stream says %s", line)
			}
		}
	})
}

// called asks the agent by gRPC how often a pod's connections were accepted and went well.
func (s *site) called(t *testing.T, address, pod string) (n int) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flows, err := flowpb.NewFlowsClient(conn).Stream(t.Context(), &flowpb.StreamRequest{Pod: pod, Namespace: s.namespace})
	if err != nil {
		t.Fatal(err)
	}
	for {
		f, err := flows.Recv()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.GetKind() == "conn" && f.GetDirection() == "in" && f.GetVerdict() == "ok" {
			n++
		}
	}
}

// scan sends lines until there are no more, and closes the channel.
func scan(from *bufio.Scanner, lines chan<- string) {
	defer close(lines)
	for from.Scan() {
		lines <- from.Text()
	}
}

// metric is one container's value; -1 when it is not there.
func (s *site) metric(t *testing.T, url, family, pod string) float64 {
	t.Helper()
	reply, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[family].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["namespace"] == s.namespace && labels["pod"] == pod {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}
