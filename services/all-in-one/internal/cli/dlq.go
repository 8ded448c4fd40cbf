package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "List, show and retry dead letters: records that a service could not process",
		Long: `A record that a service cannot process becomes a dead letter: its bytes, key and headers go to <topic>.dlq with the reason, and the service
goes on. Letters are kept for 7 days.

  tocsin dlq list                                     what was refused, by whom and why
  tocsin dlq show telemetry.frames.v1/3/1042          one letter, its value decoded
  tocsin dlq retry --all --reason schema_id --dry-run what would be given back
  tocsin dlq retry --all --reason schema_id           give it back, once its cause is mended

A letter's id is topic/partition/offset of the record that was refused; where several services refused it, @service may follow.`,
	}
	cmd.AddCommand(dlqListCommand(), dlqShowCommand(), dlqRetryCommand())
	return cmd
}

// shelfFlags say where the letters stand, and which are picked.
type shelfFlags struct {
	file, dir string
	brokers   []string
	topic     string
	consumer  string
	reason    string
	since     string
}

func (s *shelfFlags) where(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.file, "config", "", "the fleet's YAML `FILE`")
	f.StringVar(&s.dir, "data-dir", "./.tocsin", "`DIR` of tocsin run")
	f.StringSliceVar(&s.brokers, "brokers", nil, "Kafka brokers `HOST:PORT`, separated by commas, instead of the configured ones")
}

func (s *shelfFlags) which(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.topic, "topic", "", "only records of this `TOPIC`, such as "+topic.Frames)
	f.StringVar(&s.consumer, "consumer", "", "only what this `SERVICE` refused: "+strings.Join(dlqConsumers, ", "))
	f.StringVar(&s.reason, "reason", "", "only letters whose reason holds this `TEXT`")
	f.StringVar(&s.since, "since", "", "only letters of the last `DURATION`, such as 2h, or since a time such as 2026-01-31T08:00:00Z")
}

var dlqConsumers = []string{dlq.Processor, dlq.Router, dlq.Writer}

// open gives the shelf and the filter that the flags mean.
func (s *shelfFlags) open(cmd *cobra.Command, ids []string) (*dlq.Shelf, dlq.Filter, error) {
	f := dlq.Filter{Topic: strings.TrimSuffix(s.topic, topic.DLQ("")), Consumer: s.consumer, Reason: s.reason}
	if f.Topic != "" && !slices.Contains(dlq.Topics(), f.Topic) {
		return nil, f, badConfig(fmt.Errorf("--topic: %q has no dead letters; there are %s", s.topic, strings.Join(dlq.Topics(), ", ")))
	}
	if f.Consumer != "" && !slices.Contains(dlqConsumers, f.Consumer) {
		return nil, f, badConfig(fmt.Errorf("--consumer: %q writes no dead letters; there are %s", s.consumer, strings.Join(dlqConsumers, ", ")))
	}
	var err error
	if f.Since, err = since(s.since, time.Now()); err != nil {
		return nil, f, badConfig(err)
	}
	for _, a := range ids {
		id, err := dlq.ParseID(a)
		if err != nil {
			return nil, f, badConfig(err)
		}
		if !slices.Contains(dlq.Topics(), id.Topic) {
			return nil, f, badConfig(fmt.Errorf("%q: %s has no dead letters; there are %s", a, id.Topic, strings.Join(dlq.Topics(), ", ")))
		}
		f.IDs = append(f.IDs, id)
	}
	k, err := s.kafka()
	if err != nil {
		return nil, f, badConfig(err)
	}
	log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "error", Format: "console"}, cmd.ErrOrStderr())
	if err != nil {
		return nil, f, err
	}
	return dlq.NewShelf(k, log), f, nil
}

func (s *shelfFlags) kafka() (kafka.Config, error) {
	cfg, err := loadFleet(s.file, s.dir)
	if err != nil {
		return kafka.Config{}, err
	}
	k := cfg.Process.Kafka
	if cfg.Broker.Mode == "embedded" {
		k.Brokers = []string{cfg.Broker.Listen}
	}
	if len(s.brokers) > 0 {
		k.Brokers = s.brokers
	}
	_, err = k.Options(zap.NewNop()) // certificates that are not there are the configuration's fault
	return k, err
}

func since(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("--since: %q is neither a duration such as 2h nor a time such as 2026-01-31T08:00:00Z", s)
	}
	return now.Add(-d), nil
}

func dlqListCommand() *cobra.Command {
	var at shelfFlags
	var output string
	var limit, skip int
	var waiting bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Count dead letters by topic, service and reason, and list them, the newest last",
		Long: `List counts the dead letters by topic, by the service that refused them and by reason (numbers and quoted words left out, so that
like goes with like), and lists the newest of them, the newest last. A letter that a service wrote twice counts once.

  tocsin dlq list
  tocsin dlq list --topic telemetry.frames.v1 --since 2h
  tocsin dlq list --reason schema_id --limit 0 --output json
  tocsin dlq list --limit 50 --skip 50                the page before the last`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return badConfig(fmt.Errorf("--output: %q is neither table nor json", output))
			}
			if limit < 0 || skip < 0 {
				return badConfig(errors.New("--limit and --skip: must not be negative"))
			}
			shelf, f, err := at.open(cmd, nil)
			if err != nil {
				return err
			}
			ls, err := letters(cmd.Context(), shelf, f)
			if err != nil {
				return err
			}
			if waiting {
				ls = slices.DeleteFunc(ls, func(l dlq.Letter) bool { return !l.Waiting() })
			}
			r := newDLQReport(ls, limit, skip)
			if output == "json" {
				return r.json(cmd.OutOrStdout())
			}
			r.table(cmd.OutOrStdout())
			return nil
		},
	}
	at.which(cmd)
	f := cmd.Flags()
	f.BoolVar(&waiting, "waiting", false, "leave out what was given back")
	f.StringVar(&output, "output", "table", "`FORMAT`: table or json")
	f.IntVar(&limit, "limit", 50, "letters listed; 0: all")
	f.IntVar(&skip, "skip", 0, "newest letters left out, to see those before")
	at.where(cmd)
	return cmd
}

// letters gives the letters, the newest last.
func letters(ctx context.Context, shelf *dlq.Shelf, f dlq.Filter) ([]dlq.Letter, error) {
	ls, err := shelf.List(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%w (is kafka.brokers right? `tocsin doctor` tells)", err)
	}
	slices.SortStableFunc(ls, func(a, b dlq.Letter) int { return a.At.Compare(b.At) })
	return ls, nil
}

func dlqShowCommand() *cobra.Command {
	var at shelfFlags
	var raw bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter: its reason, headers and value",
		Long: `Show tells all that is known of one dead letter: who refused it, when and why, its headers, and its value: as JSON where it can be decoded, else as
a hex dump of its first 4 KiB.

  tocsin dlq show telemetry.frames.v1/3/1042
  tocsin dlq show detect.anomalies.v1/0/7@alert-router
  tocsin dlq show telemetry.frames.v1/3/1042 --raw > value.bin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			shelf, f, err := at.open(cmd, args)
			if err != nil {
				return err
			}
			ls, err := letters(cmd.Context(), shelf, f)
			if err != nil {
				return err
			}
			if len(ls) == 0 {
				return fmt.Errorf("%w: %s", dlq.ErrNotFound, args[0])
			}
			if raw && len(ls) > 1 {
				ls = ls[:1] // the value is the same, whoever refused it
			}
			for i, l := range ls {
				rec, err := shelf.Open(cmd.Context(), l)
				if err != nil {
					return err
				}
				if raw {
					_, err := cmd.OutOrStdout().Write(rec.Value)
					return err
				}
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				showLetter(cmd.OutOrStdout(), l, rec)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "write the value's bytes and nothing else")
	at.where(cmd)
	return cmd
}

func dlqRetryCommand() *cobra.Command {
	var at shelfFlags
	var all bool
	var opt dlq.RetryOptions
	cmd := &cobra.Command{
		Use:   "retry [ID...]",
		Short: "Give dead letters back to the service that refused them, each exactly once",
		Long: `Retry puts the original bytes of dead letters back into their topic and partition, for the service that had refused them; other readers of the
topic pass them over. Do it once the cause is mended: the schema registered, the new version deployed.

Each letter is given back exactly once: what was given back is noted in the same transaction, so a retry may be stopped, may crash, and may be run
again at any time; what is done is done, what is left goes on. A record that is refused again becomes a new letter, with its
attempts counted; after --max-attempts it is left alone. Old frames correct history and call
nobody. Of several letters that hold the same frame, because its sender had repeated it, the first is given back.

  tocsin dlq retry telemetry.frames.v1/3/1042
  tocsin dlq retry --all --reason schema_id --dry-run
  tocsin dlq retry --all --topic telemetry.readings.v1 --since 2h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !all && len(args) == 0:
				return badConfig(errors.New("give ids of letters, or --all with --topic, --reason, --since or --consumer as you like"))
			case all && len(args) > 0:
				return badConfig(errors.New("--all and ids: give one of them"))
			case opt.MaxAttempts < 1:
				return badConfig(errors.New("--max-attempts: must be 1 or more"))
			}
			shelf, f, err := at.open(cmd, args)
			if err != nil {
				return err
			}
			bar := newBar(cmd.ErrOrStderr())
			bar.items = true
			opt.Progress = func(done, total int64) { bar.progress("letters", done, total) }
			sum, err := shelf.Retry(cmd.Context(), f, opt)
			bar.done()
			printRetry(cmd.OutOrStdout(), sum, opt.DryRun)
			switch {
			case errors.Is(err, dlq.ErrTaken):
				return err
			case err != nil:
				return fmt.Errorf("%w; nothing is lost or doubled: run it again", err)
			case sum.Matched == 0 && len(args) > 0:
				return fmt.Errorf("%w: %s", dlq.ErrNotFound, strings.Join(args, ", "))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "every letter that waits and that the other flags pick")
	at.which(cmd)
	f.BoolVar(&opt.DryRun, "dry-run", false, "only say what would be done")
	f.IntVar(&opt.MaxAttempts, "max-attempts", 3, "leave records alone that were refused `N` times")
	at.where(cmd)
	return cmd
}

func printRetry(w io.Writer, sum dlq.Summary, dry bool) {
	did := "given back"
	if dry {
		did = "would be given back"
	}
	fmt.Fprintf(w, "%d letters: %d %s, %d were given back before, %d skipped\n", sum.Matched, sum.Retried, did, sum.Before, len(sum.Skipped))
	const most = 20
	for i, s := range sum.Skipped {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n", len(sum.Skipped)-most)
			break
		}
		fmt.Fprintf(w, "  %s skipped: %s\n", s.Letter.ID(), s.Why)
	}
}
