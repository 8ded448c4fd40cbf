package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/replayalert"
)

// exitUnknown is for an alert that cannot be replayed: neither the same nor another.
const exitUnknown = launch.ExitConfig

func replayAlertCommand() *cobra.Command {
	var at shelfFlags
	var asJSON, details bool
	cmd := &cobra.Command{
		Use:   "replay-alert ID",
		Short: "Judge an alert again from its raw frames and compare it with what was said then, bit by bit",
		Long: `Replay-alert takes what was known of the machine before the alert, reads the machine's raw frames from Kafka, and has them judged again by the code that
runs in production. Every report of the alert must come out as it stands in detect.anomalies.v1, to the last bit: time, severity, score, confidence,
contributions, detectors, summary. It shows what was judged when, what was measured, what each detector said of it, and the chance that this happens while nothing
is wrong (p).

ID is the alert's (label alert_id at /api/v2/alerts), that of one of its anomalies or events, a link that holds one of these, or the alert's fingerprint.

  tocsin replay-alert pump-1/behaviour/1772344800000000
  tocsin replay-alert pump-1/behaviour/1772344800000000 --details --brokers kafka-1:9092
  tocsin replay-alert pump-1/behaviour/1772344800000000 --json | jq .identical

Exit code: 0 identical, 1 different, 2 it cannot be told: frames or the state before the alert are gone (both are kept for 7 days), or this build does not read
them.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			episode, err := replayalert.ParseEpisode(args[0])
			if err != nil {
				return badConfig(err)
			}
			k, err := at.kafka()
			if err != nil {
				return badConfig(err)
			}
			bar := newBar(cmd.ErrOrStderr())
			bar.items = true
			res, err := replayAlert(cmd.Context(), k, replayalert.Options{Episode: episode, Progress: func(done, total int64) { bar.progress("frames", done, total) }}, cmd.ErrOrStderr())
			bar.done()
			switch {
			case errors.Is(err, context.Canceled):
				return err
			case errors.Is(err, replayalert.ErrCannot):
				return &exit{exitUnknown, err}
			case err != nil:
				return &exit{exitUnknown, fmt.Errorf("%w (is kafka.brokers right? `tocsin doctor` tells)", err)}
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(res); err != nil {
					return err
				}
			} else {
				showReplay(cmd.OutOrStdout(), res, details)
			}
			if !res.Identical {
				return &exit{launch.ExitFailed, errors.New("the alert does not come out as it was recorded")}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "write everything as JSON")
	f.BoolVar(&details, "details", false, "show the window of every report, not only of the first")
	at.where(cmd)
	return cmd
}

func replayAlert(ctx context.Context, k kafka.Config, opt replayalert.Options, stderr io.Writer) (*replayalert.Result, error) {
	log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "error", Format: "console"}, stderr)
	if err != nil {
		return nil, err
	}
	kl, err := replayalert.OpenKafka(k, log)
	if err != nil {
		return nil, err
	}
	defer kl.Close()
	registry, err := schema.New(k, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer registry.Close()
	following, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = registry.Run(following) // waits errors of the brokers out
	}()
	defer func() { stop(); <-done }()
	opt.Log, opt.Schemas = kl, registry.Resolve
	return replayalert.Run(ctx, opt)
}

// showReplay writes the result for people.
func showReplay(w io.Writer, r *replayalert.Result, details bool) {
	b := r.Begins
	fmt.Fprintf(w, "%s\n", r.Episode)
	if b.Offset < 0 {
		fmt.Fprintf(w, "begins with nothing: the machine was new")
	} else {
		fmt.Fprintf(w, "begins with the state of %s, %d bytes, saved at offset %d of processor.state.v1[%d] and kept in %s", r.Equipment, b.StateBytes, b.Offset, r.Partition, b.Source)
	}
	if b.Build != "" {
		fmt.Fprintf(w, ", judged by %s", b.Build)
	}
	fmt.Fprintf(w, "\ndetection revision %d (%s)", b.Revision, b.Fingerprint)
	if end := fmt.Sprintf("revision %d (%s)", b.Revision, b.Fingerprint); b.Ends != end {
		fmt.Fprintf(w, ", at the end %s", b.Ends)
	}
	fmt.Fprintf(w, "\n%d frames judged again, offsets %d to %d of telemetry.frames.v1[%d]\n\n", r.Frames, r.From, r.To, r.Partition)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REPORT\tJUDGED AT\tFRAMES OFFSET\tSEVERITY\tSCORE RECORDED\tSCORE RECOMPUTED\tRESULT")
	same := 0
	for _, p := range r.Reports {
		result := "identical"
		if len(p.NotCompared) > 0 {
			result += " (but " + strings.Join(p.NotCompared, ", ") + ": other machines' word)"
		}
		if !p.Identical {
			result = "DIFFERENT: " + difference(p.Differences[0])
			if n := len(p.Differences) - 1; n > 0 {
				result += fmt.Sprintf(", and %d more", n)
			}
		} else {
			same++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Phase, p.JudgedAt.Format("2006-01-02 15:04:05.000"), offset(p.JudgedOffset), p.Severity, exactly(p.Recorded), exactly(p.Recomputed), result)
	}
	_ = t.Flush()
	for i, p := range r.Reports {
		if i == 0 || details || !p.Identical {
			showReport(w, &p)
		}
	}
	word := "identical"
	if !r.Identical {
		word = "DIFFERENT"
	}
	fmt.Fprintf(w, "\n%s: %d of %d reports came out the same, bit by bit\n", word, same, len(r.Reports))
}

func showReport(w io.Writer, p *replayalert.ReportResult) {
	fmt.Fprintf(w, "\n%s: %s\n", p.Phase, p.Summary)
	for _, d := range p.Differences {
		fmt.Fprintf(w, "  differs: %s\n", difference(d))
	}
	x := p.Window
	if x == nil {
		return
	}
	fmt.Fprintf(w, "  window from %s: ", x.Start.Format(time.RFC3339Nano))
	if x.Learning {
		fmt.Fprintln(w, "too little history, not scored")
	} else {
		fmt.Fprintf(w, "p %s, surprise -ln(p) %s, %s by itself; a page takes %s\n", short(x.PValue), short(x.Final), short(x.Own), short(x.Demand))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  SENSOR\tSAMPLES\tMEAN\tSTDDEV\tMIN\tMAX\tLAST\tP\tDETECTORS")
	for _, s := range x.Sensors {
		samples := strconv.Itoa(int(s.Count))
		if s.Unusable > 0 {
			samples += fmt.Sprintf(" (%d unusable)", s.Unusable)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, samples, short(s.Mean), short(s.Stddev), short(s.Min), short(s.Max), short(s.Last), short(s.PValue), said(s.Says))
	}
	_ = t.Flush()
	if len(x.Joint) > 0 {
		fmt.Fprintf(w, "  all sensors together: %s\n", said(x.Joint))
	}
}

func said(list []replayalert.Opinion) string {
	var out []string
	for _, o := range list {
		s := o.Detector
		switch {
		case o.Broken:
			s += " broken"
		case o.PValue != nil:
			s += " p " + short(o.PValue)
		}
		switch {
		case o.Low != nil && o.High != nil:
			s += " (" + short(o.Low) + " to " + short(o.High) + ")"
		case o.High != nil:
			s += " (at most " + short(o.High) + ")"
		case o.Low != nil:
			s += " (at least " + short(o.Low) + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func difference(d replayalert.Difference) string {
	return fmt.Sprintf("%s recorded %s, recomputed %s", d.Field, d.Recorded, d.Recomputed)
}

func offset(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// exactly is as many digits as tell all doubles apart.
func exactly(x *float64) string {
	if x == nil {
		return "-"
	}
	return strconv.FormatFloat(*x, 'g', -1, 64)
}

func short(x *float64) string {
	if x == nil {
		return "-"
	}
	return strconv.FormatFloat(*x, 'g', 4, 64)
}
