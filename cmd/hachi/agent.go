package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/internal/version"
	"github.com/hachi-run/hachi/shim/agent"
	"github.com/hachi-run/hachi/shim/doctor"
)

type agentFlags struct {
	bookFlags
	listen string
	level  slog.Level
}

func newAgentCommand() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Serve the node's metrics for Prometheus and its flows as a stream",
		Long: `Serve, until SIGTERM or Ctrl-C:

  /metrics                                      what containers use, for Prometheus
  /flows[?pod=NAME][&namespace=NAME][&follow=1] flow records as lines of JSON: the recent ones, or all from now on
  /healthz                                      200 as long as the node can be read

and at the same port, by gRPC without TLS:

  hachi.flow.v1.Flows/Stream                    the same records, selected by pod, namespace and follow
  grpc.health.v1.Health/Check                   SERVING as long as the node can be read

One agent runs on a node. It reads what shims count, keeps nothing, and clears away what dead pods left; pods do not
notice whether it runs. Whoever reaches its address may read all of it, so by default that is this machine.`,
		Example: `  hachi agent
  hachi agent --listen :9464
  curl -N 'http://127.0.0.1:9464/flows?follow=1&pod=web'
  grpcurl -plaintext -d '{"pod":"web","follow":true}' 127.0.0.1:9464 hachi.flow.v1.Flows/Stream`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	f.bookFlags.register(flags)
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9464", "`ADDRESS:PORT` to serve at; port 0 takes a free one")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return c
}

func (f *agentFlags) run(c *cobra.Command) error {
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return usagef("--listen %q: not ADDRESS:PORT", f.listen)
	}
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: f.level}))
	n, err := f.open()
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.Check(); err != nil {
		return err
	}
	var features []agent.Feature
	for _, p := range doctor.Features() {
		features = append(features, agent.Feature{Name: p.Name, Works: p.Status == doctor.OK})
		if p.Status != doctor.OK {
			log.Warn("goes without", "feature", p.Name, "status", p.Status, "for", p.For, "detail", p.Detail, "needs", p.Needs)
		}
	}
	ctx, stop := interruptible(c.Context())
	defer stop()
	a, err := agent.New(agent.Options{Node: n, Listen: f.listen, Features: features, Log: log})
	if err != nil {
		return err
	}
	log.Info("serving", "address", a.Addr().String(), "version", version.Get().String(), "ledger", f.Ledger, "pins", f.Pins)
	if err := a.Run(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	log.Info("stopped")
	return nil
}
