package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/shim/image/pack"
)

func newPushCommand() *cobra.Command {
	var plain bool
	var image string
	c := &cobra.Command{
		Use:   "push ARCHIVE [NAME]",
		Short: "Push an OCI archive to a registry",
		Long: `Push an OCI archive, of hachi build or of another tool, to the registry in NAME; without NAME, in the name that the
archive gives. Prints the name with its digest. Credentials are those of docker login or podman login. Registries on
this machine may do without TLS, others only with --plain-http.`,
		Example: `  hachi push app.tar localhost:5000/app:v1`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			i, err := pack.OpenArchive(args[0], image)
			if err != nil {
				return err
			}
			defer i.Close()
			name := i.Name
			if len(args) == 2 {
				name = args[1]
			}
			if name == "" {
				return usagef("archive %s does not say its name (say it: hachi push %s NAME)", args[0], args[0])
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			pinned, err := pack.Registry{PlainHTTP: plain}.Push(ctx, i, name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), pinned)
			return err
		},
	}
	c.Flags().BoolVar(&plain, "plain-http", false, "allow a registry without TLS that is not on this machine")
	c.Flags().StringVar(&image, "image", "", "which image of an archive that holds several, by its full `NAME`")
	return c
}
