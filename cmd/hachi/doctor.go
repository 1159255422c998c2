package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/shim/doctor"
)

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	var address string
	c := &cobra.Command{
		Use:   "doctor [--json]",
		Short: "Tell what this machine lacks for pods, accounting and redirection, and what to do",
		Long: `Ask the kernel, the cgroups and containerd for all that hachi needs. Each line is ok, missing (needs ...), or cannot tell
(why). Nothing on the machine is changed. The exit code is 1 when something is missing.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			findings := doctor.Examine(ctx, doctor.Options{Address: address})
			if err := writeFindings(c.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			if doctor.Lacking(findings) {
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().StringVarP(&address, "address", "a", cmp.Or(os.Getenv("CONTAINERD_ADDRESS"), doctor.DefaultAddress), "containerd's `SOCKET`")
	return c
}

func writeFindings(out io.Writer, findings []doctor.Finding, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(findings)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		text := harmless(f.Detail)
		switch f.Status {
		case doctor.Missing:
			text += " (needs " + harmless(f.Needs) + ")"
		case doctor.Unknown:
			text = "(" + text + ")"
		}
		fmt.Fprintf(w, "%s\t%s\tfor %s\t%s\n", f.Name, status(f.Status), f.For, text)
	}
	return w.Flush()
}

func status(s doctor.Status) string {
	if s == doctor.Unknown {
		return "cannot tell"
	}
	return string(s)
}
