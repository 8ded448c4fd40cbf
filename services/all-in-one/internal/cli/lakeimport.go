package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/history"
)

func importCommand(open openLake) *cobra.Command {
	var opt history.Options
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Bring recorded data into the lake's table readings, past Kafka: nothing judges it, nobody is paged",
		Long: `Import reads CSV and Parquet files with a row per time and a column per sensor, as tocsin replay does, into the lake's table readings.
A file is checked whole before anything of it is written; what is wrong is said with line and column. Importing a file again, or
after it was broken off, adds only what is missing. Rows older than cold_path_writer.maintenance.keep allows are removed again by
the next tocsin lake retain; the rollups keep them.

  tocsin lake import history/*.csv --equipment-column asset --time-column measured_at
  tocsin lake import pump-7.parquet --equipment pump-7 --dry-run`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opt.Equipment != "" && (opt.CSV.EquipmentColumn != "" || len(args) > 1) {
				return badConfig(errors.New("--equipment is for one file without --equipment-column"))
			}
			b, _, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			for _, path := range args {
				bar := newBar(cmd.ErrOrStderr())
				opt.Progress = bar.progress
				sum, err := history.Import(cmd.Context(), b, path, opt)
				bar.done()
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rows, %d values of %d machines from %s to %s", path, sum.Rows, sum.Values, sum.Machines, sum.First.UTC().Format(time.RFC3339), sum.Last.UTC().Format(time.RFC3339))
				if !opt.DryRun {
					fmt.Fprintf(cmd.OutOrStdout(), ": %d files, %d of them in the lake already", sum.Files, sum.There)
				}
				fmt.Fprintln(cmd.OutOrStdout())
			}
			return nil
		},
	}
	f := cmd.Flags()
	csvFlags(cmd, &opt.CSV)
	f.StringVar(&opt.CSV.EquipmentColumn, "equipment-column", "", "header of the `COLUMN` that names the machine")
	f.StringVar(&opt.Equipment, "equipment", "", "machine `ID` of a file without equipment column; default: the file's name")
	f.BoolVar(&opt.DryRun, "dry-run", false, "only check the files")
	return cmd
}
