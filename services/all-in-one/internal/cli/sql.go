package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func sqlCommand() *cobra.Command {
	var address, token, format, from, to, timeout string
	var rows int
	cmd := &cobra.Command{
		Use:   "sql QUERY",
		Short: "Ask the lake in SQL",
		Long: `Sql has the historical-api answer a query over the lake's tables, in DuckDB's dialect: docs/SQL.md. Ctrl-C ends the query.

  tocsin sql "SELECT sensor, avg(value) FROM readings WHERE equipment_id = 'pump-1' GROUP BY ALL" --from 2026-11-20
  tocsin sql "FROM alerts ORDER BY at DESC LIMIT 20" --format csv > alerts.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wire := format
			if format == "table" {
				wire = "json"
			}
			body, err := json.Marshal(map[string]any{"sql": args[0], "format": wire, "from": from, "to": to, "timeout": timeout, "max_rows": rows})
			if err != nil {
				return err
			}
			r, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, strings.TrimRight(address, "/")+"/v1/sql", bytes.NewReader(body))
			if err != nil {
				return badConfig(fmt.Errorf("--history: %w", err))
			}
			r.Header.Set("Content-Type", "application/json")
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
			answer, err := client.Do(r)
			if err != nil {
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				return fmt.Errorf("%w (is the historical-api running there? --history says where)", err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				var problem struct{ Title, Detail string }
				if json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&problem) != nil || problem.Title == "" {
					return errors.New(answer.Status)
				}
				return fmt.Errorf("%s: %s", problem.Title, problem.Detail)
			}
			if answer.Header.Get("X-Truncated") == "true" {
				fmt.Fprintf(cmd.ErrOrStderr(), "only the first %s rows\n", answer.Header.Get("X-Rows"))
			}
			if format == "table" {
				return printRows(cmd.OutOrStdout(), answer.Body)
			}
			_, err = io.Copy(cmd.OutOrStdout(), answer.Body)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&address, "history", "http://127.0.0.1:8086", "`URL` of the historical-api")
	f.StringVar(&token, "token", os.Getenv("TOCSIN_HISTORY_TOKEN"), "bearer token; default: TOCSIN_HISTORY_TOKEN")
	f.Lookup("token").DefValue = ""
	f.StringVar(&format, "format", "table", "`FORMAT`: table, json, csv, arrow")
	f.StringVar(&from, "from", "", "event `TIME` from which on the lake is looked at, RFC 3339 or a date")
	f.StringVar(&to, "to", "", "event `TIME` before which it is")
	f.StringVar(&timeout, "timeout", "", "the longest that it may take, such as 10s")
	f.IntVar(&rows, "rows", 0, "most rows; 0: as many as the service allows")
	return cmd
}

// printRows prints an answer in JSON as a table.
func printRows(w io.Writer, r io.Reader) error {
	var answer struct {
		Columns []struct{ Name string }
		Rows    [][]json.RawMessage
	}
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range answer.Columns {
		fmt.Fprint(t, tab(i), c.Name)
	}
	fmt.Fprintln(t)
	for _, row := range answer.Rows {
		for i, v := range row {
			fmt.Fprint(t, tab(i), cell(v))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func tab(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}

// cell is a value as a terminal may show it: a text from a sensor must not move the cursor.
func cell(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && string(v) != "null" {
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				return ' '
			}
			return r
		}, s)
	}
	return string(v)
}
