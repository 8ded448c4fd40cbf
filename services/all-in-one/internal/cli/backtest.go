package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/backtest"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trialreport"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// backtestFlags are what the command line says.
type backtestFlags struct {
	inputs               []string
	output               string
	config, compare      string
	report, faults       string
	train                string
	trainRows            int
	csv                  csvfile.Options
	lead, grace          time.Duration
	asJSON               bool
	currentCfg, proposed fleet.Config
}

func backtestCommand() *cobra.Command {
	var o backtestFlags
	cmd := &cobra.Command{
		Use:   "backtest",
		Short: "Score recorded data with the production detection code, and price a change of its configuration",
		Long: `Backtest judges recorded data with the same judge that runs in production, without Kafka and without calling anybody.

With --output it writes one line for each row of a CSV file:

  timestamp,score,flag,severity,top_sensor,contributions

score is in [0,1], higher is more anomalous; flag is 1 where the judge finds the row anomalous at the configured false-alarm budget;
contributions is a JSON object {sensor: share}. A row's score rests on that row and those before it, never on later ones. The same
file and configuration give the same bytes.

With --compare it prices a change: the same history goes through the current configuration (--config, or the shipped one) and the proposed one, and it
says what each costs and finds: pages per machine per month, pages that appear and disappear, and, where the true faults are known, false pages, faults
missed, and how long after a fault's beginning the page came. --report draws it as one HTML file: scores over time with what it takes to page, flags, faults and pages
of both side by side, and for each page which sensors drove it. The file needs no network and no script; send it, print it.

  tocsin backtest --input pump.csv --ignore-columns anomaly --output scores.csv
  tocsin backtest --input pump.csv --report pump.html                                what would it have said?
  tocsin backtest --input pump.csv --label-column anomaly --compare new.yaml         is the change worth it?
  tocsin backtest --input 'plant/*.csv' --compare new.yaml --report change.html      one machine for each file
  tocsin backtest --input plant.csv --equipment-column asset --compare new.yaml
  tocsin backtest --input kafka://127.0.0.1:9092/telemetry.frames.v1 --faults .tocsin/truth.jsonl --compare new.yaml

The last one takes the frames that Kafka still holds (7 days), with their own times, and the faults that tocsin simulate wrote. A proposed file is read as it would be
at a start: what it leaves out has its default. To ask for fewer false pages, try

  stream_processor: {detection: {calibrate: {budget: 0.1}}}        # pages per machine and month while nothing is wrong

A page counts for a fault when it is said from --lead before the fault begins to --grace after it ends; any other page is false. A label is a fault where it is
neither empty, 0, false, no, none, normal nor ok; rows in a row with the same label are one fault.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return badConfig(err)
			}
			if o.output != "" {
				if err := o.score(cmd); err != nil {
					return err
				}
			}
			if o.compare == "" && o.report == "" {
				return nil
			}
			return o.price(cmd)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.inputs, "input", nil, "CSV `FILE` or pattern, or kafka://broker:port/topic; may be given again, but with --output")
	_ = cmd.MarkFlagRequired("input") // fails only for a flag that does not exist
	f.StringVar(&o.output, "output", "", "`FILE` for the scores, one line for each row")
	f.StringVar(&o.config, "config", "", "YAML `FILE` whose section stream_processor.detection is used; default: the shipped configuration")
	f.StringVar(&o.compare, "compare", "", "YAML `FILE` with the proposed configuration")
	f.StringVar(&o.report, "report", "", "HTML `FILE` for the report")
	f.BoolVar(&o.asJSON, "json", false, "with --compare or --report: write the figures and pages as JSON")
	f.StringVar(&o.csv.LabelColumn, "label-column", "", "header of the `COLUMN` that says what was wrong; it is never a sensor")
	f.StringVar(&o.faults, "faults", "", "`FILE` of true faults, as tocsin simulate writes it")
	f.DurationVar(&o.lead, "lead", 0, "a page may come this long before a fault that it is to count for")
	f.DurationVar(&o.grace, "grace", time.Minute, "... and this long after its end")
	f.StringVar(&o.train, "train", "", "CSV `FILE` of the same sensors that is learned from first")
	f.IntVar(&o.trainRows, "train-rows", 0, "the first `N` rows of each machine are only learned from, never flagged")
	f.StringVar(&o.csv.EquipmentColumn, "equipment-column", "", "with --compare or --report: header of the `COLUMN` that names the machine")
	csvFlags(cmd, &o.csv)
	return cmd
}

// check refuses what does not go together, and reads the configurations.
func (o *backtestFlags) check() error {
	pricing := o.compare != "" || o.report != ""
	fromKafka := len(o.inputs) > 0 && isURL(o.inputs[0])
	switch {
	case o.output == "" && !pricing:
		return errors.New(`required flag(s) "output" not set; or give --compare or --report`)
	case o.train != "" && o.trainRows > 0:
		return errors.New("--train and --train-rows: give one of them")
	case o.csv.LabelColumn != "" && o.faults != "":
		return errors.New("--label-column and --faults: give one of them")
	case !pricing && (o.faults != "" || o.asJSON || o.csv.EquipmentColumn != ""):
		return errors.New("--faults, --json and --equipment-column go with --compare or --report")
	case o.output != "" && (fromKafka || o.csv.EquipmentColumn != ""):
		return errors.New("--output takes one CSV file of one machine")
	case fromKafka && (o.train != "" || o.csv.LabelColumn != ""):
		return errors.New("--train and --label-column go with CSV files")
	case o.lead < 0 || o.grace < 0:
		return errors.New("--lead and --grace: must not be negative")
	case o.trainRows < 0:
		return errors.New("--train-rows: must not be negative")
	}
	var inputs []string
	for _, in := range o.inputs {
		if _, err := os.Stat(in); err == nil || !strings.ContainsAny(in, "*?[") { // a name, whether or not it is there: that is said when it is opened
			inputs = append(inputs, in)
			continue
		}
		matched, err := expand([]string{in})
		if err != nil {
			return err
		}
		inputs = append(inputs, matched...)
	}
	if o.inputs = inputs; len(inputs) > 1 && (o.output != "" || o.train != "") {
		return fmt.Errorf("--output and --train go with one input, these are %d", len(inputs))
	}
	o.currentCfg, o.proposed = fleet.DefaultConfig(), fleet.DefaultConfig()
	if err := config.Load(o.config, o.currentCfg.Sections()...); err != nil {
		return err
	}
	if o.compare != "" {
		return config.Load(o.compare, o.proposed.Sections()...)
	}
	return nil
}

// loadModels fetches the models that the configurations name.
func (o *backtestFlags) loadModels(ctx context.Context) error {
	for _, c := range []*fleet.Config{&o.currentCfg, &o.proposed} {
		full, err := streamprocessor.WithModels(ctx, c.Processor)
		if err != nil {
			return err
		}
		c.Processor = full
	}
	return nil
}

// score writes the file of scores.
func (o *backtestFlags) score(cmd *cobra.Command) error {
	if err := o.loadModels(cmd.Context()); err != nil {
		return badConfig(err)
	}
	opt := backtest.Options{
		Input: o.inputs[0], Output: o.output, CSV: o.csv, Detection: o.currentCfg.Processor.Detection, Train: o.train, TrainRows: o.trainRows,
	}
	bar := newBar(cmd.ErrOrStderr())
	opt.Progress = func(done, total int64) { bar.progress(opt.Input, done, total) }
	sum, err := backtest.Run(cmd.Context(), opt)
	bar.done()
	if err != nil {
		return err
	}
	column := "time from " + sum.TimeColumn
	if sum.TimeColumn == "" {
		column = "rows one second apart"
	}
	if !o.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "%d rows of %d sensors (%s), %d flagged\n", sum.Rows, sum.Sensors, column, sum.Flagged)
	}
	return nil
}

// price tries the configurations on the history.
func (o *backtestFlags) price(cmd *cobra.Command) error {
	if err := o.loadModels(cmd.Context()); err != nil {
		return badConfig(err)
	}
	opt := trial.Options{
		Inputs: o.inputs, CSV: o.csv, Train: o.train, TrainRows: o.trainRows, Faults: o.faults, Lead: o.lead, Grace: o.grace,
		Kafka: o.currentCfg.Process.Kafka, Configs: []trial.Config{{Name: "current", Detection: o.currentCfg.Processor.Detection}},
	}
	if o.compare != "" {
		opt.Configs = append(opt.Configs, trial.Config{Name: "proposed", Detection: o.proposed.Processor.Detection})
	} else {
		opt.Configs[0].Name = "judged"
	}
	bar := newBar(cmd.ErrOrStderr())
	bar.items = isURL(o.inputs[0])
	opt.Progress = bar.progress
	res, err := trial.Run(cmd.Context(), opt)
	bar.done()
	if err != nil {
		return err
	}
	if o.report != "" {
		if err := writeReport(o.report, res); err != nil {
			return err
		}
	}
	if o.asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(res.Summary())
	}
	showTrial(cmd.OutOrStdout(), res)
	if o.report != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "\nreport: %s\n", o.report)
	}
	return nil
}

// writeReport leaves no half of a file.
func writeReport(path string, res *trial.Result) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = trialreport.Write(tmp, res, trialreport.Options{Build: "tocsin " + launch.Version()})
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

// showTrial writes the result for people.
func showTrial(w io.Writer, r *trial.Result) {
	fmt.Fprintf(w, "%d rows of %d machines, %s observed\n\n", r.Rows, len(r.Machines), trialreport.Duration(r.Observed))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value func(*trial.Trial) string) {
		fmt.Fprint(t, name)
		for _, x := range r.Trials {
			fmt.Fprintf(t, "\t%s", value(x))
		}
		fmt.Fprintln(t)
	}
	row("", func(x *trial.Trial) string { return x.Name })
	row("pages", func(x *trial.Trial) string { return fmt.Sprint(len(x.Pages)) })
	row("pages per machine per month", func(x *trial.Trial) string { return rateWords(x.PerMonth) })
	if r.Labelled {
		row("false pages", func(x *trial.Trial) string { return fmt.Sprint(x.False.N) })
		row("false pages per machine per month", func(x *trial.Trial) string { return rateWords(*x.False) })
		row("faults found", func(x *trial.Trial) string { return fmt.Sprintf("%d of %d", x.Found, x.Totals.Faults) })
		row("median delay", func(x *trial.Trial) string { return delayWords(x, x.Median) })
		row("worst delay", func(x *trial.Trial) string { return delayWords(x, x.Worst) })
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\n%s\n", trialreport.Verdict(r))
	if r.Outside > 0 {
		fmt.Fprintf(w, "%d faults lie outside of what was judged and do not count.\n", r.Outside)
	}
	if len(r.Trials) == 2 {
		showDifferences(w, r)
	}
}

// listed is how many pages or faults are listed of each sort; --json has all.
const listed = 10

func showDifferences(w io.Writer, r *trial.Result) {
	for i, title := range []string{"disappear", "appear"} {
		n := 0
		for _, p := range r.Trials[i].Pages {
			if p.Same != nil {
				continue
			}
			if n++; n == 1 {
				fmt.Fprintf(w, "\nPages that %s:\n", title)
			}
			if n <= listed {
				about := ""
				switch {
				case p.Fault != nil:
					about = " [" + p.Fault.Kind + "]"
				case r.Labelled:
					about = " [no known fault]"
				}
				fmt.Fprintf(w, "  %s  %s  %s%s  %s\n", p.Said.Format("2006-01-02 15:04:05"), p.Machine, p.Cause, about, p.Summary)
			}
		}
		if n > listed {
			fmt.Fprintf(w, "  and %d more\n", n-listed)
		}
	}
	for i, title := range []string{"newly missed", "newly found"} {
		n := 0
		for _, f := range r.Faults {
			_, was := f.Delay(i)
			if _, other := f.Delay(1 - i); !was || other {
				continue
			}
			if n++; n == 1 {
				fmt.Fprintf(w, "\nFaults %s:\n", title)
			}
			if n <= listed {
				fmt.Fprintf(w, "  %s  %s  %s\n", f.Start.Format("2006-01-02 15:04:05"), f.Machine, f.Kind)
			}
		}
		if n > listed {
			fmt.Fprintf(w, "  and %d more\n", n-listed)
		}
	}
}

func rateWords(r trial.Rate) string {
	return fmt.Sprintf("%s (%s to %s)", trialreport.Figure(r.Rate), trialreport.Figure(r.Low), trialreport.Figure(r.High))
}

func delayWords(t *trial.Trial, d time.Duration) string {
	if t.Found == 0 {
		return "-"
	}
	return trialreport.Duration(d)
}
