package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// trainer asks a model-trainer.
type trainer struct{ url, token string }

const maxTrainerAnswer = 256 << 20

// call sends body as JSON, decodes the answer into v, and turns problem details into an error.
func (t *trainer) call(ctx context.Context, method, path string, body, v any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(t.url, "/")+path, in)
	if err != nil {
		return badConfig(fmt.Errorf("--trainer: %w", err))
	}
	if t.token != "" {
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("%w (is the model-trainer running there? --trainer says where)", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxTrainerAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		var problem struct{ Title, Detail string }
		if json.Unmarshal(b, &problem) != nil || problem.Title == "" {
			return fmt.Errorf("%s %s: %s", method, path, answer.Status)
		}
		return fmt.Errorf("%s: %s", problem.Title, problem.Detail)
	}
	return json.Unmarshal(b, v)
}

func (t *trainer) command(use, short, long string, args cobra.PositionalArgs, run func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: args, RunE: run}
}

// modelAnswer is what is known of a model by name.
type modelAnswer struct {
	Name       string `json:"name"`
	Champion   string `json:"champion"`
	Challenger string `json:"challenger"`
	Versions   []struct {
		Version string    `json:"version"`
		Bytes   int64     `json:"bytes"`
		Stored  time.Time `json:"stored"`
	} `json:"versions"`
}

func modelsCommand() *cobra.Command {
	t := &trainer{}
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Train models, list them, choose which versions judge, score with them",
		Long: `Models asks the model-trainer. A model has a name, and versions that are the hashes of their content; the champion's word counts, the shadow
(challenger) is asked beside it.

  tocsin models train pump --algorithm isolation_forest --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --machines 'pump-*' --sensors pressure,temperature
  tocsin models train pump --algorithm lof --file pump.csv --ignore-columns time
  tocsin models list
  tocsin models show pump
  tocsin models score pump --row '{"temperature": 70, "pressure": 3}'
  tocsin models shadow pump@4f1c22ab90de
  tocsin models compare pump --since 168h
  tocsin models drift pump
  tocsin models promote pump@4f1c22ab90de`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&t.url, "trainer", "http://127.0.0.1:8087", "`URL` of the model-trainer")
	f.StringVar(&t.token, "token", os.Getenv("TOCSIN_TRAINER_TOKEN"), "bearer token; default: TOCSIN_TRAINER_TOKEN")
	f.Lookup("token").DefValue = ""
	cmd.AddCommand(t.train(), t.list(), t.show(), t.roles("promote", "Make a version the champion", false), t.roles("shadow", "Ask a version beside the champion; its word does not count", true), t.compare(), t.drift(), t.score())
	return cmd
}

func (t *trainer) train() *cobra.Command {
	var algorithm, file, timeColumn, parameters, from, to string
	var ignore, machines, sensors []string
	var rows int
	var contamination float64
	var hold time.Duration
	cmd := t.command("train NAME", "Train a model from a file or from the lake", `Train has a model trained and waits for its end. The file lies in the trainer's data folder (model_trainer.data_dir); without one, samples are taken from
the lake's readings: --from, --to and --sensors are needed then. Of more samples than --rows a uniform part is used, the same each time.`, cobra.ExactArgs(1), nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := map[string]any{"name": args[0], "algorithm": algorithm, "async": true}
		if file != "" {
			q["file"], q["ignore_columns"], q["time_column"] = file, ignore, timeColumn
		} else {
			lake := map[string]any{"from": from, "to": to, "machines": machines, "sensors": sensors, "rows": rows}
			if hold > 0 {
				lake["hold"] = hold.String()
			}
			q["lake"] = lake
		}
		if parameters != "" {
			if !json.Valid([]byte(parameters)) {
				return badConfig(errors.New("--parameters: no JSON object"))
			}
			q["parameters"] = json.RawMessage(parameters)
		}
		if cmd.Flags().Changed("contamination") {
			q["contamination"] = contamination
		}
		return t.await(cmd, q)
	}
	f := cmd.Flags()
	f.StringVar(&algorithm, "algorithm", "isolation_forest", "`NAME`: isolation_forest, lof, one_class_svm, seasonal, gbdt")
	f.StringVar(&file, "file", "", "CSV or Parquet `FILE` in the trainer's data folder")
	f.StringSliceVar(&ignore, "ignore-columns", nil, "headers of `COLUMNS` of the file that are not read")
	f.StringVar(&timeColumn, "time-column", "", "header of the file's time `COLUMN`")
	f.StringVar(&from, "from", "", "first `TIME` of the readings, RFC 3339")
	f.StringVar(&to, "to", "", "`TIME` that the readings end before")
	f.StringSliceVar(&machines, "machines", nil, "`IDS` or patterns with *; default: all")
	f.StringSliceVar(&sensors, "sensors", nil, "`NAMES` of the sensors to learn from")
	f.IntVar(&rows, "rows", 0, "most samples to keep; default 100,000")
	f.DurationVar(&hold, "hold", 0, "fill in a sensor that a sample lacks with its last value, if that is no older")
	f.StringVar(&parameters, "parameters", "", "the algorithm's parameters as a `JSON` object")
	f.Float64Var(&contamination, "contamination", 0.01, "share of the rows that the threshold leaves outside")
	return cmd
}

// await starts a training and shows how far it is until it has ended.
func (t *trainer) await(cmd *cobra.Command, request any) error {
	type training struct {
		ID       string
		State    string
		Progress float64
		Problem  string
		Result   struct {
			Model      string
			Champion   string
			Challenger string
			Header     struct{ Rows int }
			Seen       int `json:"samples_seen"`
		}
	}
	var now training
	if err := t.call(cmd.Context(), http.MethodPost, "/v1/models", request, &now); err != nil {
		return err
	}
	bar := newBar(cmd.ErrOrStderr())
	bar.items = true
	defer bar.done()
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for now.State == "running" {
		const steps = 1000
		bar.progress("training", int64(steps*now.Progress), steps)
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-every.C:
		}
		if err := t.call(cmd.Context(), http.MethodGet, "/v1/trainings/"+url.PathEscape(now.ID), nil, &now); err != nil {
			return err
		}
	}
	bar.done()
	if now.State != "done" {
		return errors.New(now.Problem)
	}
	role := "champion"
	if _, version, _ := strings.Cut(now.Result.Model, "@"); version != now.Result.Champion {
		role = "shadow"
	}
	of := ""
	if now.Result.Seen > now.Result.Header.Rows {
		of = " of " + strconv.Itoa(now.Result.Seen)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: trained on %d%s rows; it is the %s\n", now.Result.Model, now.Result.Header.Rows, of, role)
	return nil
}

func (t *trainer) list() *cobra.Command {
	return t.command("list", "List models with champion and shadow", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var answer struct{ Models []modelAnswer }
		if err := t.call(cmd.Context(), http.MethodGet, "/v1/models", nil, &answer); err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tCHAMPION\tSHADOW")
		for _, m := range answer.Models {
			fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Champion, m.Challenger)
		}
		return w.Flush()
	})
}

func (t *trainer) show() *cobra.Command {
	return t.command("show NAME[@VERSION]", "Show a model's versions, or what one of them is", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		var raw json.RawMessage
		if err := t.call(cmd.Context(), http.MethodGet, "/v1/models/"+url.PathEscape(args[0]), nil, &raw); err != nil {
			return err
		}
		if strings.Contains(args[0], "@") {
			return indented(cmd.OutOrStdout(), raw)
		}
		var m modelAnswer
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "VERSION\tROLE\tBYTES\tSTORED")
		for _, v := range m.Versions {
			role := map[string]string{m.Champion: "champion", m.Challenger: "shadow"}[v.Version]
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", v.Version, role, v.Bytes, v.Stored.UTC().Format(time.RFC3339))
		}
		return w.Flush()
	})
}

func indented(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (t *trainer) score() *cobra.Command {
	var row, file string
	cmd := t.command("score NAME[@VERSION]", "Score rows", `Score sends one row, or a file of rows (a JSON array of objects by feature, or of arrays), and prints the answer: champion and shadow side by side.`, cobra.ExactArgs(1), nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := map[string]json.RawMessage{}
		switch {
		case row != "" && file == "" && json.Valid([]byte(row)):
			q["row"] = json.RawMessage(row)
		case file != "" && row == "":
			b, err := os.ReadFile(file)
			if err != nil {
				return badConfig(err)
			}
			if !json.Valid(b) {
				return badConfig(fmt.Errorf("%s: no JSON", file))
			}
			q["rows"] = b
		default:
			return badConfig(errors.New("give --row with JSON, or --rows with a file"))
		}
		var raw json.RawMessage
		if err := t.call(cmd.Context(), http.MethodPost, "/v1/models/"+url.PathEscape(args[0])+"/score", q, &raw); err != nil {
			return err
		}
		return indented(cmd.OutOrStdout(), raw)
	}
	cmd.Flags().StringVar(&row, "row", "", "one row as `JSON`: an object by feature, or an array")
	cmd.Flags().StringVar(&file, "rows", "", "JSON `FILE` with an array of rows")
	return cmd
}
