package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/replay"
)

func csvFlags(cmd *cobra.Command, opt *csvfile.Options) {
	f := cmd.Flags()
	f.StringVar(&opt.TimeColumn, "time-column", "", "header of the time `COLUMN`; without it the column is found, or rows are one second apart")
	f.StringSliceVar(&opt.Ignore, "ignore-columns", nil, "headers of `COLUMNS` that are never read, such as labels")
}

func replayCommand() *cobra.Command {
	var opt replay.Options
	opt.S3 = objstore.DefaultConfig(".")
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Send recorded data through the ingest-gateway as an edge gateway would",
		Long: `Replay sends each row of a CSV file as a frame, with its own time, and waits until Kafka has all of them. Delimiter and time
column are found; every other column is a sensor. Sending a file again changes nothing: its frames are recognised as duplicates.

  tocsin replay --input pump.csv --ignore-columns anomaly,changepoint
  tocsin replay --input 'history/*.csv'                    one machine for each file, named after it
  tocsin replay --input plant.csv --equipment-column asset
  tocsin replay --input s3://bucket/pump.csv --s3-endpoint http://127.0.0.1:7070
  tocsin replay --input kafka://other:9092/telemetry.frames.v1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inputs, err := expand(opt.Inputs)
			if err != nil {
				return badConfig(err)
			}
			opt.Inputs = inputs
			// History is sent with many frames of one machine in flight; the gateway and the client keep their order.
			opt.Client.MaxInFlightPerMachine = 1000
			// A gateway that is not there is waited for, and that is said.
			log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "warn", Format: "console"}, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			opt.Client.Log = log
			bar := newBar(cmd.ErrOrStderr())
			opt.Progress = bar.progress
			sum, err := replay.Run(cmd.Context(), opt)
			bar.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d inputs, %d frames, %d values from %s to %s: %d acknowledged in %s\n", sum.Inputs, sum.Rows, sum.Values,
				sum.First.UTC().Format(time.RFC3339), sum.Last.UTC().Format(time.RFC3339), sum.Acknowledged, sum.Took.Round(time.Millisecond))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opt.Inputs, "input", nil, "`INPUT`: a CSV file or pattern, s3://bucket/key.csv, or kafka://broker:port/topic; may be given again")
	_ = cmd.MarkFlagRequired("input") // fails only for a flag that does not exist
	csvFlags(cmd, &opt.CSV)
	f.StringVar(&opt.CSV.EquipmentColumn, "equipment-column", "", "header of the `COLUMN` that names the machine")
	f.StringVar(&opt.Equipment, "equipment", "", "machine `ID` of a file without equipment column; default: the file's name")
	f.StringVar(&opt.Gateway, "gateway", "", "gateway `ID`; default: made from the file's content")
	f.Float64Var(&opt.Speed, "speed", 0, "1: at the pace of the data, 10: ten times; 0: as fast as it is taken")
	f.BoolVar(&opt.ShiftToNow, "shift-to-now", false, "move times so that each file's first row is now")
	f.StringVar(&opt.Client.URL, "to", "http://127.0.0.1:8081", "`URL` of the ingest-gateway: http://host:8081 or grpc://host:9081")
	f.StringVar(&opt.Client.Token, "token", "", "bearer token for the gateway")
	f.StringVar(&opt.S3.Endpoint, "s3-endpoint", "", "`URL` of an S3 server other than AWS; credentials come from AWS_... variables")
	return cmd
}

// expand turns patterns into the files they match.
func expand(inputs []string) ([]string, error) {
	var out []string
	for _, in := range inputs {
		if strings.Contains(in, "://") {
			out = append(out, in)
			continue
		}
		m, err := filepath.Glob(in)
		if err != nil {
			return nil, fmt.Errorf("--input %q: %w", in, err)
		}
		if len(m) == 0 {
			return nil, fmt.Errorf("--input %q: no such file", in)
		}
		sort.Strings(m)
		out = append(out, m...)
	}
	return out, nil
}

// bar shows the progress of long work on a terminal, and nothing elsewhere.
type bar struct {
	w     io.Writer
	items bool // counts things, not bytes
	shown string
	bar   *progressbar.ProgressBar
}

func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok {
		return &bar{}
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return &bar{}
	}
	return &bar{w: w}
}

func (b *bar) progress(what string, done, total int64) {
	if b.w == nil {
		return
	}
	if what != b.shown {
		b.done()
		b.shown = what
		b.bar = progressbar.NewOptions64(max(total, -1), progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(filepath.Base(what)),
			progressbar.OptionShowBytes(!b.items), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = b.bar.Set64(done) // a bar that cannot be drawn must not stop the work
}

func (b *bar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}

// isURL tells an address from a file.
func isURL(s string) bool { return strings.Contains(s, "://") }
