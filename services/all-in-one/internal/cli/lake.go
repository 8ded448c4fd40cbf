package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

// openLake opens the lake that a command's flags name, with its policy.
type openLake func(*cobra.Command) (objstore.Bucket, coldpathwriter.Maintenance, error)

func maintenanceCommands(open openLake) []*cobra.Command {
	compact := maintenanceCommand(open, "compact", "Bring the rollups up to date, merge the files of hours and days that are past, and delete files that do not count any more", coldpathwriter.Compact)
	retain := maintenanceCommand(open, "retain", "Remove rows that cold_path_writer.maintenance.keep does not keep any more", coldpathwriter.Retain)
	log := &cobra.Command{
		Use: "log TABLE", Short: "What was merged and removed: a JSON object for each step, oldest first", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, _, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			entries, err := coldpathwriter.MaintenanceLog(cmd.Context(), b, args[0])
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for _, e := range entries {
				if err := out.Encode(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return []*cobra.Command{compact, retain, log}
}

func maintenanceCommand(open openLake, use, short string, do func(context.Context, objstore.Bucket, coldpathwriter.MaintainOptions) error) *cobra.Command {
	var tables []string
	var dry bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, policy, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			steps := 0
			err = do(cmd.Context(), b, coldpathwriter.MaintainOptions{
				Maintenance: policy, Tables: tables, DryRun: dry,
				Report: func(s coldpathwriter.MaintenanceStep) {
					steps++
					printStep(cmd, s, dry)
				},
			})
			if steps == 0 && err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to do")
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&tables, "table", nil, "`TABLE` to look after; may be given again; all when missing")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

func printStep(cmd *cobra.Command, s coldpathwriter.MaintenanceStep, dry bool) {
	verb := s.Kind
	if dry {
		verb = "would " + s.Kind
	}
	w := cmd.OutOrStdout()
	if s.Kind == "clean" {
		fmt.Fprintf(w, "%s %s: %d files that do not count any more\n", verb, s.Table, s.Files)
		return
	}
	when := time.UnixMilli(s.HourMS).UTC().Format("2006-01-02 15h")
	if s.Hours > 1 {
		when = when[:len(time.DateOnly)]
	}
	fmt.Fprintf(w, "%s %s %s: %d files, %d rows, %d bytes", verb, s.Table, when, s.Files, s.Rows, s.Bytes)
	if s.Into > 0 {
		fmt.Fprintf(w, " -> %d files, %d bytes", s.Into, s.IntoLen)
	}
	fmt.Fprintln(w)
}
