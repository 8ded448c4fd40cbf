package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

func validateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration file: unknown keys and bad values are named with their line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := fleet.DefaultConfig()
			if err := config.Load(file, cfg.Sections()...); err != nil {
				return badConfig(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), file+": good")
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the fleet's YAML `FILE`")
	_ = cmd.MarkFlagRequired("config") // fails only for a flag that does not exist
	return cmd
}

func referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reference", Short: "Print the reference of all configuration keys as Markdown", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := fleet.DefaultConfig()
			w := cmd.OutOrStdout()
			fmt.Fprint(w, referenceHead)
			return config.Reference(w, cfg.Sections()...)
		},
	}
}

const referenceHead = `# Configuration

Made by ` + "`make docs`" + `; do not edit.

One YAML file serves the whole fleet: a section for each service, every key optional. Unknown keys are errors. A value may hold
` + "`${NAME}`" + `, taken from the environment (` + "`$${`" + ` is a literal ` + "`${`" + `): put secrets there. A key's own environment variable, where it has
one, wins over the file; lists are separated by commas there. Durations are written like 250ms, 5s, 2m30s, 1h.

` + "`tocsin run`" + ` changes a few defaults: logs for people, everything under --data-dir, and files in the lake every 15 s.
`

func lakeCommand() *cobra.Command {
	var file, dir string
	cmd := &cobra.Command{Use: "lake", Short: "Look after the data lake"}
	audit := &cobra.Command{
		Use:   "audit",
		Short: "Check that the lake's files tile each partition without gap or overlap and hold what they promise",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadFleet(file, dir)
			if err != nil {
				return badConfig(err)
			}
			b, err := objstore.Open(cmd.Context(), cfg.Writer.Lake)
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			report, err := coldpathwriter.Audit(cmd.Context(), b, coldpathwriter.AuditOptions{})
			if err != nil {
				return err
			}
			return printAudit(cmd.OutOrStdout(), report)
		},
	}
	audit.Flags().StringVar(&file, "config", "", "the fleet's YAML `FILE`")
	audit.Flags().StringVar(&dir, "data-dir", "./.tocsin", "`DIR` of tocsin run, whose lake is checked when the configuration names none")
	cmd.AddCommand(audit)
	open := func(cmd *cobra.Command) (objstore.Bucket, coldpathwriter.Maintenance, error) {
		cfg, err := loadFleet(file, dir)
		if err != nil {
			return nil, coldpathwriter.Maintenance{}, badConfig(err)
		}
		b, err := objstore.Open(cmd.Context(), cfg.Writer.Lake)
		return b, cfg.Writer.Maintenance, err
	}
	files := filesCommand(func(cmd *cobra.Command) (objstore.Bucket, objstore.Config, error) {
		cfg, err := loadFleet(file, dir)
		if err != nil {
			return nil, objstore.Config{}, badConfig(err)
		}
		b, err := objstore.Open(cmd.Context(), cfg.Writer.Lake)
		return b, cfg.Writer.Lake, err
	})
	for _, c := range append(maintenanceCommands(open), files, importCommand(open)) {
		c.Flags().StringVar(&file, "config", "", "the fleet's YAML `FILE`")
		c.Flags().StringVar(&dir, "data-dir", "./.tocsin", "`DIR` of tocsin run, whose lake it is when the configuration names none")
		cmd.AddCommand(c)
	}
	return cmd
}

// check is one question of the doctor.
type check struct {
	name string
	mend string
	ask  func(context.Context) (string, error)
}

func doctorCommand() *cobra.Command {
	var file, dir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check broker, topics, stores, clocks and services, and say how to mend each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadFleet(file, dir)
			if err != nil {
				return badConfig(err)
			}
			opts, err := cfg.Process.Kafka.Options(zap.NewNop())
			if err != nil {
				return badConfig(err)
			}
			cl, err := kgo.NewClient(opts...)
			if err != nil {
				return err
			}
			defer cl.Close()
			bad := 0
			for _, c := range checks(cfg, cl) {
				ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
				found, err := c.ask(ctx)
				cancel()
				if err != nil {
					bad++
					fmt.Fprintf(cmd.OutOrStdout(), "BAD   %-18s %v\n      %-18s -> %s\n", c.name, err, "", c.mend)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "good  %-18s %s\n", c.name, found)
			}
			if bad > 0 {
				return fmt.Errorf("%d checks failed", bad)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the fleet's YAML `FILE`")
	cmd.Flags().StringVar(&dir, "data-dir", "./.tocsin", "`DIR` of tocsin run")
	return cmd
}

func checks(cfg fleet.Config, cl *kgo.Client) []check {
	adm := kadm.NewClient(cl)
	list := []check{
		{"broker", "start Kafka, or correct kafka.brokers (" + strings.Join(cfg.Process.Kafka.Brokers, ",") + "); `tocsin run` brings its own", func(ctx context.Context) (string, error) {
			b, err := adm.ListBrokers(ctx)
			return fmt.Sprintf("%d brokers", len(b)), err
		}},
		{"topics", "let a service make them, or set kafka.partitions to what they have", func(ctx context.Context) (string, error) {
			found, err := adm.ListTopics(ctx)
			if err != nil {
				return "", err
			}
			for _, s := range topic.All() {
				t, ok := found[s.Name]
				if !ok {
					return "", fmt.Errorf("%s is missing", s.Name)
				}
				if s.Partitioning == topic.PerMachine && int32(len(t.Partitions)) != cfg.Process.Kafka.Partitions {
					return "", fmt.Errorf("%w: %s has %d partitions, kafka.partitions says %d", kafka.ErrTopicShape, s.Name, len(t.Partitions), cfg.Process.Kafka.Partitions)
				}
			}
			return fmt.Sprintf("%d, %d partitions each", len(topic.All()), cfg.Process.Kafka.Partitions), nil
		}},
		{"broker time", "set message.timestamp.type=LogAppendTime on " + topic.Frames + "; judging rests on it", func(ctx context.Context) (string, error) {
			rc, err := adm.DescribeTopicConfigs(ctx, topic.Frames)
			if err != nil {
				return "", err
			}
			for _, c := range rc {
				for _, k := range c.Configs {
					if k.Key == "message.timestamp.type" {
						if k.MaybeValue() != "LogAppendTime" {
							return "", fmt.Errorf("message.timestamp.type is %s", k.MaybeValue())
						}
						return "LogAppendTime", nil
					}
				}
			}
			return "", errors.New("message.timestamp.type is not known")
		}},
		{"transactions", "end them with Kafka's kafka-transactions.sh --bootstrap-server ... abort --topic T --partition P --start-offset OFFSET", func(ctx context.Context) (string, error) {
			return hangingTransactions(ctx, adm, time.Now())
		}},
		{"dead letters", "look at them with `tocsin dlq list`; they stop nothing", func(ctx context.Context) (string, error) {
			if err := cl.Ping(ctx); err != nil { // a time-out shall not look like many letters
				return "", err
			}
			return deadLetters(ctx, cfg.Process.Kafka)
		}},
		{"lake", "correct cold_path_writer.lake, or its permissions; a store must honour If-None-Match", func(ctx context.Context) (string, error) {
			b, err := objstore.Open(ctx, cfg.Writer.Lake)
			if err != nil {
				return "", err
			}
			defer func() { _ = b.Close() }()
			return cfg.Writer.Lake.URL, objstore.Probe(ctx, b)
		}},
	}
	for _, svc := range []struct{ name, addr string }{
		{"ingest-gateway", cfg.Gateway.HTTP.Listen},
		{"stream-processor", cfg.Processor.HTTP.Listen},
		{"alert-router", cfg.Router.HTTP.Listen},
		{"cold-path-writer", cfg.Writer.HTTP.Listen},
		{"realtime-api", cfg.Realtime.HTTP.Listen},
		{"historical-api", cfg.History.HTTP.Listen},
	} {
		list = append(list, check{svc.name, "start it, or see its log", func(ctx context.Context) (string, error) { return ready(ctx, svc.addr) }})
	}
	return list
}

// deadLetters counts them. Having some is no fault of the installation.
func deadLetters(ctx context.Context, k kafka.Config) (string, error) {
	ls, err := dlq.NewShelf(k, zap.NewNop()).List(ctx, dlq.Filter{})
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, dlq.ErrTooMany):
		return "too many to count now: `tocsin dlq list` tells", nil
	case err != nil:
		return "", err
	case len(ls) == 0:
		return "none", nil
	}
	waiting := map[string]int{}
	n := 0
	for i := range ls {
		if ls[i].Waiting() {
			waiting[ls[i].Topic]++
			n++
		}
	}
	says := fmt.Sprintf("%d wait, %d were given back", n, len(ls)-n)
	for _, t := range dlq.Topics() {
		if waiting[t] > 0 {
			says += fmt.Sprintf("; %s %d", t, waiting[t])
		}
	}
	if n > 0 {
		says += ": `tocsin dlq list` tells why"
	}
	return says, nil
}

func ready(ctx context.Context, addr string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health/ready", nil)
	if err != nil {
		return "", err
	}
	res, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1024))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
	}
	return "ready at " + addr, nil
}

func printAudit(w io.Writer, r coldpathwriter.AuditReport) error {
	fmt.Fprintf(w, "%-12s %8s %12s %14s %11s\n", "table", "files", "rows", "bytes", "partitions")
	for _, t := range r.Tables {
		fmt.Fprintf(w, "%-12s %8d %12d %14d %11d\n", t.Table, t.Files, t.Rows, t.Bytes, t.Partitions)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s: %s %s [%d,%d): %s\n", f.Kind, f.Table, f.Source+f.Key, f.First, f.End, f.Detail)
	}
	if !r.OK() {
		return fmt.Errorf("%d findings", r.Count)
	}
	fmt.Fprintln(w, "whole: no gap, no overlap, every file holds what it promises")
	return nil
}
