package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hachi-run/hachi/internal/version"
	"github.com/hachi-run/hachi/shim/install"
	"github.com/hachi-run/hachi/shim/install/kube"
)

func newNodeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "node COMMAND",
		Short: "Put hachi on a Kubernetes node, or take it away",
		Long: `Put hachi on a node, or take it away: the programs, a few lines of containerd's configuration, and the restart that
containerd needs to read them. Pods that run are not touched. The Helm chart runs these commands on every node; on a
host without the chart they do the same by hand, as root.`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(newNodeInstallCommand(), newNodeUninstallCommand(), newNodeStatusCommand(), newNodeWithdrawCommand())
	for _, sub := range c.Commands() {
		sub.Args = usageArgs(sub.Args)
		sub.DisableFlagsInUseLine = true
	}
	return c
}

// nodeFlags are what install, uninstall and status have in common.
type nodeFlags struct {
	install.Options
	// node is the Node object to label; empty outside a cluster.
	node string
	// stay keeps the process, for a DaemonSet.
	stay stay
}

func (f *nodeFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.Host, "host", "/", "where the host's root directory is seen")
	set.StringVar(&f.Dir, "dir", "/opt/hachi", "the host's folder for the programs")
	set.StringVar(&f.Handler, "handler", "hachi", "name of the runtime, as a RuntimeClass says it")
	set.StringVar(&f.Sandboxer, "sandboxer", "podsandbox", "shim: pods without a pause image (containerd 2)")
	set.StringVar(&f.Socket, "socket", "/run/containerd/containerd.sock", "containerd's socket on the host")
	set.StringVar(&f.Config, "config", "", "containerd's main file (default what the running containerd was started with)")
	set.StringVar(&f.Restart, "restart", install.RestartAuto, "how containerd is restarted: auto, systemd, or signal where something starts it again when it ends")
	set.StringVar(&f.RestartCommand, "restart-command", "", "command for the host's sh that restarts containerd")
	set.StringVar(&f.Unit, "unit", "", "containerd's systemd unit (default the one it runs in)")
	set.DurationVar(&f.Timeout, "timeout", time.Minute, "how long containerd may take to serve after a restart")
	set.StringVar(&f.node, "node", os.Getenv("NODE_NAME"), "Node object to label, in a pod with a service account")
}

func (f *nodeFlags) installer(log *slog.Logger) (*install.Installer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f.From, f.Version, f.Log = filepath.Dir(self), version.Get().Version, log
	i, err := install.New(f.Options)
	if err != nil {
		return nil, &usageError{err}
	}
	return i, nil
}

// label runs a call to the API server if there is a node to label.
func (f *nodeFlags) label(ctx context.Context, call func(context.Context, *kube.Client) error) error {
	if f.node == "" {
		return nil
	}
	client, err := kube.InPod(kube.Dir)
	if err != nil {
		return fmt.Errorf("label node %s: %w", f.node, err)
	}
	defer client.Close()
	return call(ctx, client)
}

func newNodeInstallCommand() *cobra.Command {
	f := &nodeFlags{}
	c := &cobra.Command{
		Use:   "install [--host DIR] [--restart HOW | --restart-command CMD] [--sandboxer shim]",
		Short: "Install or upgrade hachi on this node",
		Long: `Install or upgrade hachi on this node. What is in place already is left alone, and containerd is restarted only when it
does not know the runtime yet. When a step fails, everything is taken back.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			i, err := f.installer(log)
			if err != nil {
				return err
			}
			once := func(ctx context.Context) error {
				if err := i.Install(ctx); err != nil {
					return errors.Join(err, f.label(context.WithoutCancel(ctx), func(ctx context.Context, k *kube.Client) error { return k.UnlabelNode(ctx, f.node) }))
				}
				return f.label(ctx, func(ctx context.Context, k *kube.Client) error { return k.LabelNode(ctx, f.node, f.Version) })
			}
			return f.stay.run(ctx, log, once, func(ctx context.Context) error {
				s, err := i.Status(ctx)
				if err == nil && !s.Ready() {
					log.Warn("this node lost its installation; installing again", "pending", s.Pending, "served", s.Serves, "build", cmp.Or(s.Build, "none"))
					err = once(ctx)
				}
				return err
			})
		},
	}
	f.register(c.Flags())
	f.stay.register(c.Flags())
	return c
}

func newNodeUninstallCommand() *cobra.Command {
	f := &nodeFlags{}
	var removal install.Removal
	c := &cobra.Command{
		Use:   "uninstall [--force] [--purge]",
		Short: "Take hachi away from this node",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			i, err := f.installer(log)
			if err != nil {
				return err
			}
			once := func(ctx context.Context) error {
				// First, so that no pod comes while the others are counted.
				if err := f.label(ctx, func(ctx context.Context, k *kube.Client) error { return k.UnlabelNode(ctx, f.node) }); err != nil {
					return err
				}
				err := i.Uninstall(ctx, removal)
				var busy *install.BusyError
				if errors.As(err, &busy) {
					err = errors.Join(err, f.label(ctx, func(ctx context.Context, k *kube.Client) error { return k.LabelNode(ctx, f.node, f.Version) }))
				}
				return err
			}
			return f.stay.run(ctx, log, once, nil)
		},
	}
	f.register(c.Flags())
	f.stay.register(c.Flags())
	c.Flags().BoolVar(&removal.Force, "force", false, "although pods of this node run on hachi; what they need stays until they end")
	c.Flags().BoolVar(&removal.Purge, "purge", false, "also remove compiled modules and records (/var/lib/hachi, /run/hachi)")
	return c
}

func newNodeStatusCommand() *cobra.Command {
	f := &nodeFlags{}
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what this node has of hachi; exit code 1 if its pods would not start",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			i, err := f.installer(slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			s, err := i.Status(c.Context())
			if err != nil {
				return err
			}
			if err := s.Write(c.OutOrStdout()); err != nil {
				return err
			}
			if !s.Ready() {
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	f.register(c.Flags())
	return c
}

func newNodeWithdrawCommand() *cobra.Command {
	var w kube.Withdrawal
	var timeout time.Duration
	var force, purge bool
	c := &cobra.Command{
		Use:   "withdraw --namespace NAME --daemonset NAME [--runtime-class NAME] [--force] [--purge]",
		Short: "Let the chart's installer uninstall hachi from every node (what helm uninstall runs)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if w.Namespace == "" || w.DaemonSet == "" {
				return usagef("--namespace and --daemonset: say which")
			}
			if force {
				w.Flags = append(w.Flags, "--force")
			}
			if purge {
				w.Flags = append(w.Flags, "--purge")
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not every node is done after %v", timeout))
			defer cancel()
			client, err := kube.InPod(kube.Dir)
			if err != nil {
				return fmt.Errorf("withdraw: %w", err)
			}
			defer client.Close()
			w.Say = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
			return client.Withdraw(ctx, w)
		},
	}
	c.Flags().StringVar(&w.Namespace, "namespace", "", "namespace of the installer's DaemonSet")
	c.Flags().StringVar(&w.DaemonSet, "daemonset", "", "name of the installer's DaemonSet")
	c.Flags().StringVar(&w.RuntimeClass, "runtime-class", "", "refuse while pods of this RuntimeClass are there")
	c.Flags().BoolVar(&force, "force", false, "as for hachi node uninstall")
	c.Flags().BoolVar(&purge, "purge", false, "as for hachi node uninstall")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long all nodes together may take")
	return c
}
