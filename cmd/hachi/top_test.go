package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/containerd/console"
	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/shim/ledger"
)

func reading(pod string, change func(*ledger.Reading)) ledger.Reading {
	r := ledger.Reading{Namespace: "default", Pod: pod, Container: pod, ID: pod + "-id"}
	if change != nil {
		change(&r)
	}
	return r
}

func TestUsages(t *testing.T) {
	start := time.Now()
	before := sample{start, []ledger.Reading{
		reading("web", func(r *ledger.Reading) { r.CPU, r.RxBytes, r.TxBytes = 1e9, 1000, 500 }),
		reading("back", func(r *ledger.Reading) { r.CPU, r.RxBytes = 9e9, 9 }),
		reading("gone", nil),
	}}
	now := sample{start.Add(2 * time.Second), []ledger.Reading{
		reading("web", func(r *ledger.Reading) { r.CPU, r.RxBytes, r.TxBytes = 2e9, 3000, 500 }),
		reading("back", func(r *ledger.Reading) { r.CPU, r.RxBytes = 1e9, 1 }),
		reading("new", func(r *ledger.Reading) { r.CPU = 5e9 }),
	}}
	got := map[string][3]float64{}
	for _, u := range usages(before, now) {
		got[u.Pod] = [3]float64{u.cpu, u.in, u.out}
	}
	want := map[string][3]float64{"web": {50, 1000, 0}, "back": {0, 0, 0}, "new": {-1, -1, -1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("CPU %%, in and out per second (-want +got):\n%s", diff)
	}
}

func TestOrders(t *testing.T) {
	list := []usage{
		{Reading: reading("b", func(r *ledger.Reading) { r.Memory = 3; r.ConnectionsOpen = 1; r.RTT.P99 = 2 }), cpu: 1, in: 2, out: 3},
		{Reading: reading("a", func(r *ledger.Reading) { r.Memory = 1; r.ConnectionsOpen = 3; r.RTT.P99 = 1 }), cpu: 1, in: 3, out: 1},
		{Reading: reading("c", func(r *ledger.Reading) { r.Memory = 2; r.ConnectionsOpen = 2; r.RTT.P99 = 3 }), cpu: 3, in: 1, out: 2},
	}
	for name, want := range map[string]string{
		"cpu": "cab", "memory": "bca", "in": "abc", "out": "bca", "connections": "acb", "rtt": "cba", "name": "abc",
	} {
		o, err := orderBy(name)
		if err != nil {
			t.Fatal(err)
		}
		sorted := slices.Clone(list)
		o.sort(sorted)
		got := ""
		for _, u := range sorted {
			got += u.Pod
		}
		if got != want {
			t.Errorf("by %s: %s, want %s", name, got, want)
		}
	}
}

func TestTopTable(t *testing.T) {
	var out bytes.Buffer
	err := writeTable(&out, []usage{
		{Reading: reading("web", func(r *ledger.Reading) {
			r.Memory, r.ConnectionsOpen, r.ConnectionsOpened, r.ConnectionsAccepted, r.ConnectionsFailed, r.ConnectionsRefused = 3<<20, 1, 2, 3, 4, 1
			r.RTT = ledger.RTT{P50: 45.2, P99: 12_345}
		}), cpu: 12.34, in: 1500, out: 0},
		{Reading: reading("job", func(r *ledger.Reading) { r.Container = "side\x1b[31m" }), cpu: -1, in: -1, out: -1},
	})
	want := []string{
		"NAMESPACE POD CPU % MEMORY IN/S OUT/S CONN OPENED ACCEPTED FAILED RTT p50 p99",
		"default web 12.3 3MiB 1.5kB 0B 1 2 3 5 45µs 12ms",
		"default job/side?[31m - 0B - - 0 0 0 0 - -",
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestTopJSON holds the names of the fields, which scripts rely on.
func TestTopJSON(t *testing.T) {
	var out bytes.Buffer
	err := writeReadings(&out, []ledger.Reading{
		reading("web", func(r *ledger.Reading) { r.RxBytes = 7; r.RTT = ledger.RTT{P50: 1, P99: 2.5} }),
		reading("mute", nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 2 {
		t.Fatalf("%v: %s", err, &out)
	}
	fields := []string{
		"connections_accepted", "connections_failed", "connections_open", "connections_opened", "connections_refused", "container",
		"cpu_ns", "id", "memory_bytes", "namespace", "pod", "retransmits", "rtt_us", "rx_bytes", "rx_packets", "tx_bytes", "tx_packets",
	}
	for k, wantRTT := range []map[string]any{{"p50": 1.0, "p99": 2.5}, {"p50": nil, "p99": nil}} {
		var names []string
		for name, value := range got[k] {
			names = append(names, name)
			switch value.(type) {
			case float64, map[string]any:
			default:
				if !slices.Contains([]string{"namespace", "pod", "container", "id"}, name) {
					t.Errorf("%s is %v, want a number", name, value)
				}
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(fields, names); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(any(wantRTT), got[k]["rtt_us"]); diff != "" {
			t.Errorf("rtt_us (-want +got):\n%s", diff)
		}
	}
}

func TestTopOnce(t *testing.T) {
	now := time.Now()
	reads := 0
	read := func() (sample, error) {
		reads++
		return sample{now.Add(time.Second), []ledger.Reading{reading("web", func(r *ledger.Reading) { r.RxBytes = 2000 })}}, nil
	}
	by, _ := orderBy("cpu")
	var out bytes.Buffer
	if err := once(t.Context(), &out, sample{now, []ledger.Reading{reading("web", nil)}}, read, by); err != nil {
		t.Fatal(err)
	}
	if reads != 1 || !strings.Contains(out.String(), "2kB") {
		t.Errorf("%d readings more, %s; want one and a rate", reads, &out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := once(ctx, &out, sample{now, []ledger.Reading{reading("web", nil)}}, read, by); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestScreen(t *testing.T) {
	next := sample{time.Now(), []ledger.Reading{
		reading("small", func(r *ledger.Reading) { r.Memory = 1 << 20; r.CPU = 2e9 }),
		reading("big", func(r *ledger.Reading) { r.Memory = 2 << 20 }),
	}}
	var fail error
	s := &screen{read: func() (sample, error) { return next, fail }, interval: time.Hour, order: orders[0]}
	press := func(key string) tea.Cmd {
		_, cmd := s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(key)})
		return cmd
	}
	order := func() string {
		view := s.View()
		if strings.Index(view, "big") < strings.Index(view, "small") {
			return "big, small"
		}
		return "small, big"
	}
	s.Update(tea.WindowSizeMsg{Width: 120, Height: 20})
	s.Update(s.Init()())
	next.at = next.at.Add(time.Second)
	next.readings = []ledger.Reading{
		reading("small", func(r *ledger.Reading) { r.Memory = 1 << 20; r.CPU = 3e9 }),
		reading("big", func(r *ledger.Reading) { r.Memory = 2 << 20 }),
	}
	_, cmd := s.Update(tickMsg{})
	s.Update(cmd())
	if got := order(); got != "small, big" || !strings.Contains(s.View(), "100.0") || !strings.Contains(s.View(), "[c cpu]") {
		t.Errorf("by CPU: %s\n%s", got, s.View())
	}
	if press("m"); order() != "big, small" || !strings.Contains(s.View(), "[m memory]") {
		t.Errorf("by memory:\n%s", s.View())
	}
	if !strings.Contains(s.View(), "containers 2") || !strings.Contains(s.View(), "memory 3MiB") {
		t.Errorf("title:\n%s", s.View())
	}
	fail = errors.New("no such luck")
	_, cmd = s.Update(tickMsg{})
	if s.Update(cmd()); !strings.Contains(s.View(), "no such luck") || !strings.Contains(s.View(), "small") {
		t.Errorf("an error should show above the old table:\n%s", s.View())
	}
	s.Update(tea.WindowSizeMsg{Width: 30, Height: 6})
	for _, line := range strings.Split(s.View(), "\n") {
		if len(line) > 30 {
			t.Errorf("a line of %d in a window of 30: %q", len(line), line)
		}
	}
	if lines := strings.Count(s.View(), "\n") + 1; lines > 6 {
		t.Errorf("%d lines in a window of 6:\n%s", lines, s.View())
	}
	for _, key := range []string{"q", "x"} {
		cmd := press(key)
		quits := cmd != nil && cmd() == tea.Quit()
		if quits != (key == "q") {
			t.Errorf("%s: quits %v", key, quits)
		}
	}
}

// TestTopInATerminal runs the live table in a pseudo-terminal and presses keys.
func TestTopInATerminal(t *testing.T) {
	for name, keys := range map[string]string{"q": "mq", "ctrl-c": "\x03"} {
		t.Run(name, func(t *testing.T) {
			master, path, err := console.NewPty()
			if err != nil {
				t.Skipf("no pseudo-terminal: %v", err)
			}
			defer master.Close()
			slave, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer slave.Close()
			if err := master.Resize(console.WinSize{Width: 100, Height: 24}); err != nil {
				t.Fatal(err)
			}
			shown := make(chan string, 1)
			go func() {
				var all strings.Builder
				buf := make([]byte, 4096)
				for !strings.Contains(all.String(), "q quit") {
					n, err := master.Read(buf)
					if err != nil {
						break
					}
					all.Write(buf[:n])
				}
				shown <- all.String()
				_, _ = io.WriteString(master, keys)
				for { // the terminal's answers must not block the program
					if _, err := master.Read(buf); err != nil {
						return
					}
				}
			}()
			dir := t.TempDir()
			var stderr bytes.Buffer
			done := make(chan int, 1)
			go func() {
				done <- run(t.Context(), []string{"top", "--ledger", dir, "--pins", dir}, slave, slave, &stderr)
			}()
			select {
			case code := <-done:
				if code != exitOK {
					t.Errorf("exit code %d, %s", code, &stderr)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not quit")
			}
			if text := <-shown; !strings.Contains(text, "containers 0") {
				t.Errorf("it showed %q", text)
			}
		})
	}
}

// TestOfAnEmptyNode: nothing has ever run, which is no error.
func TestOfAnEmptyNode(t *testing.T) {
	h := start(t)
	dir := filepath.Join(h.dir, "none")
	for args, want := range map[string]string{
		"top --once --json":   "[]\n",
		"top --json":          "[]\n",
		"flows --once --json": "",
	} {
		stdout, stderr := h.ok(t, append(strings.Fields(args), "--ledger", dir, "--pins", dir)...)
		if stdout != want || stderr != "" {
			t.Errorf("hachi %s: %q and %q, want %q", args, stdout, stderr, want)
		}
	}
	if stdout, _ := h.ok(t, "top", "--ledger", dir, "--pins", dir); strings.Count(stdout, "\n") != 1 || !strings.HasPrefix(stdout, "NAMESPACE") {
		t.Errorf("hachi top shows %q, want titles alone", stdout)
	}
}

// TestWithoutBPF: a container runs and nothing counts its traffic.
func TestWithoutBPF(t *testing.T) {
	h := start(t)
	book := filepath.Join(h.dir, "ledger")
	l, err := ledger.Open(book)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ledger.NewEntry("default", "web", nil, "", []string{h.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Enter(e); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"top --json", "top --once", "flows"} {
		code, _, stderr := h.run(t, append(strings.Fields(args), "--ledger", book, "--pins", filepath.Join(h.dir, "none"))...)
		if code != exitFailed || !strings.Contains(stderr, "hachi doctor") {
			t.Errorf("hachi %s: exit code %d, %q; want one that names hachi doctor", args, code, stderr)
		}
	}
}

func TestOperatorUsage(t *testing.T) {
	h := start(t)
	for args, want := range map[string]string{
		"top --sort colour":      "not one of cpu, memory",
		"top --interval 1ms":     "too short",
		"top web":                "unknown command",
		"flows --follow --once":  "one of them",
		"flows extra":            "unknown command",
		"agent --listen nowhere": "not ADDRESS:PORT",
		"agent --log-level loud": "log-level",
		"prepare":                "requires at least 1 arg",
		"doctor now":             "unknown command",
	} {
		if code, _, said := h.run(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(said, want) {
			t.Errorf("hachi %s: exit code %d, %q; want %q", args, code, said, want)
		}
	}
}
