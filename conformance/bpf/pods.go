package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/redirect"
)

// podCost is what a pod's life pays, in ms.
type podCost struct {
	what     string
	p50, p99 float64
}

// podBar is the most that the median of attach and detach may be, in ms.
const podBar = 2

// pods attaches and detaches n pods each way, with everything loaded, as each pod after the node's first has it.
func pods(ctx context.Context, n int) (costs []podCost, err error) {
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	netns, err := l.newNetns()
	if err != nil {
		return nil, err
	}
	o, err := observe.Open(ctx, observe.Options{Root: l.root})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	r, err := redirect.Open(ctx, redirect.Options{Root: l.root})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	redirection := func(p redirect.Pod) func(string) error {
		return func(cgroup string) error {
			p.Cgroups = []string{cgroup}
			ids, err := r.Attach(ctx, p)
			if err != nil {
				return err
			}
			return r.Detach(ctx, ids...)
		}
	}
	outbound := redirect.Config{Outbound: redirect.Outbound{Port: port}}
	both := redirect.Config{Outbound: outbound.Outbound, Inbound: redirect.Inbound{Ports: []redirect.PortRange{redirect.AllPorts}}}
	for _, way := range []struct {
		what string
		do   func(cgroup string) error
	}{
		{accounting, func(cgroup string) error {
			id, err := o.Attach(cgroup)
			if err != nil {
				return err
			}
			_, err = o.Detach(id)
			return err
		}},
		{"outbound redirection", redirection(redirect.Pod{Config: outbound})},
		{"outbound and inbound", redirection(redirect.Pod{Config: both, Netns: netns})},
	} {
		cost, err := l.lives(ctx, n, way.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.what, err)
		}
		cost.what = way.what
		costs = append(costs, cost)
	}
	return costs, nil
}

// lives makes n cgroups one after the other, and times what is done to each.
func (l *lab) lives(ctx context.Context, n int, do func(cgroup string) error) (podCost, error) {
	var took []float64
	for i := range n {
		if err := ctx.Err(); err != nil {
			return podCost{}, err
		}
		dir := filepath.Join(l.cgroup, fmt.Sprintf("pod-%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return podCost{}, err
		}
		start := time.Now()
		err := do(dir)
		took = append(took, float64(time.Since(start).Microseconds())/1e3)
		if err := errors.Join(err, os.Remove(dir)); err != nil {
			return podCost{}, err
		}
	}
	slices.Sort(took)
	return podCost{p50: took[len(took)/2], p99: took[len(took)*99/100]}, nil
}
