package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// requests measures the sample server with keep-alive connections, as a guest and native, one after the other.
func (l *lab) requests(ctx context.Context) ([]row, error) {
	guestAddress, err := free()
	if err != nil {
		return nil, err
	}
	e, err := l.start(ctx, l.http, nil, guestAddress)
	if err != nil {
		return nil, err
	}
	defer end(e)
	if err := e.Run(); err != nil {
		return nil, err
	}
	native, nativeAddress, err := l.serveNative()
	if err != nil {
		return nil, err
	}
	defer stop(native)

	sides := []struct {
		address string
		pid     int
	}{{guestAddress, e.Pid()}, {nativeAddress, native.Process.Pid}}
	var rows []row
	for _, connections := range []int{1, 50, 500} {
		name := func(what string) string { return fmt.Sprintf("%s, %d connections", what, connections) }
		rate := row{what: name("requests/s"), unit: "/s", against: "native"}
		cost := row{what: name("  CPU time of the server for one"), unit: "us", against: "native"}
		slow := row{what: name("  99th percentile of answers"), unit: "ms", against: "native"}
		late := row{what: name(fmt.Sprintf("  failed or over %v", answerTimeout))}
		for i := range rounds + 1 {
			for side, s := range sides {
				used := cpuTime(s.pid)
				got, err := storm(ctx, s.address, connections, l.round)
				if err != nil {
					return nil, err
				}
				if i == 0 {
					continue // both warm up
				}
				used = cpuTime(s.pid) - used
				for r, v := range map[*row]float64{&rate: float64(got.answers) / got.took.Seconds(), &slow: ms(got.p99),
					&cost: 1000 * ms(used) / float64(got.answers)} {
					if side == 0 {
						r.ours = append(r.ours, v)
					} else {
						r.theirs = append(r.theirs, v)
					}
				}
				if side == 0 {
					late.ours = append(late.ours, float64(got.failed))
				}
			}
		}
		rows = append(rows, rate, cost, slow, late)
		if connections == 50 {
			rows = append(rows, row{what: name("  for the bar: requests/s"), unit: "/s", ours: rate.ours, atLeast: 5000})
		}
	}
	return rows, nil
}

// serveNative starts the sample server as an ordinary process.
func (l *lab) serveNative() (*exec.Cmd, string, error) {
	listener, address, err := listen()
	if err != nil {
		return nil, "", err
	}
	defer listener.Close()
	cmd := exec.Command(l.native)
	cmd.Env = []string{"LISTEN_FDS=1"}
	cmd.ExtraFiles = []*os.File{listener}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	return cmd, address, nil
}

const (
	// answerTimeout is how long a request may take.
	answerTimeout = 5 * time.Second
	// rounds is how often each number of connections is tried, after one that does not count.
	rounds = 5
)
