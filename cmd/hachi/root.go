package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/internal/version"
)

// newRootCommand makes the command tree.
func newRootCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "hachi",
		Short: "WebAssembly services as containerd and Kubernetes pods",
		Long: `hachi runs WebAssembly services as containerd and Kubernetes pods, without Linux containers.

A first service:
  hachi build app.wasm -t localhost/app:v1 -o app.tar
  ctr image import --all-platforms app.tar
  ctr run --rm --runtime io.containerd.hachi.v1 localhost/app:v1 app`,
		Version:       version.Get().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("hachi {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(
		newBuildCommand(),
		newPushCommand(),
		newInspectCommand(),
		newRunCommand(),
		newPrepareCommand(),
		newTopCommand(),
		newFlowsCommand(),
		newDoctorCommand(),
		newAgentCommand(),
		newNodeCommand(),
		newVersionCommand(),
	)
	for _, c := range root.Commands() {
		c.Args = usageArgs(c.Args)
		c.DisableFlagsInUseLine = true
	}
	return root
}

// usageArgs turns a complaint about the number of arguments into a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(c, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q (did you mean %s?)", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q", args[0])
}
