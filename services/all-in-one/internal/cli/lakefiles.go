package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// lakeFile is a file that counts, as --json has it.
type lakeFile struct {
	Address string    `json:"address"`
	Bytes   int64     `json:"bytes"`
	Hour    time.Time `json:"hour"`
	Merged  bool      `json:"merged"`
}

func filesCommand(open func(*cobra.Command) (objstore.Bucket, objstore.Config, error)) *cobra.Command {
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "files TABLE",
		Short: "The Parquet files that count now, one to a line: give these to your engine, not the folder",
		Long: `Files names the files that a table consists of now: a path in a directory, s3://bucket/key in S3. A folder also holds files that have been merged into others and are not
deleted yet; who reads those too counts rows twice. What is listed stays readable for cold_path_writer.maintenance.grace.

  tocsin lake files readings --from 2026-11-20 --to 2026-11-21T06
  duckdb -c "SELECT count(*) FROM read_parquet([$(tocsin lake files readings | sed "s/.*/'&'/" | paste -sd,)], union_by_name = true)"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			first, err := hourOf("from", from, false)
			if err != nil {
				return err
			}
			last, err := hourOf("to", to, true)
			if err != nil {
				return err
			}
			b, store, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			tables, err := lake.Tables(cmd.Context(), b)
			if err != nil {
				return err
			}
			if !slices.Contains(tables, args[0]) {
				return fmt.Errorf("there is no table %q in %s; there are: %s", args[0], store.URL, strings.Join(tables, ", "))
			}
			view, err := lake.Open(cmd.Context(), b, args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			for e, err := range view.Files(cmd.Context(), first, last) {
				if err != nil {
					return err
				}
				if err := printFile(out, store, e, asJSON); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "first `HOUR` of arrival, UTC: 2026-11-20 or 2026-11-20T06")
	cmd.Flags().StringVar(&to, "to", "", "last `HOUR` of arrival; a day means the whole day")
	cmd.Flags().BoolVar(&asJSON, "json", false, "a JSON object for each file: address, bytes, hour, merged")
	return cmd
}

func printFile(w io.Writer, store objstore.Config, e lake.Entry, asJSON bool) error {
	address, err := store.Address(e.Key)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(w).Encode(lakeFile{Address: address, Bytes: e.Size, Hour: e.Hour, Merged: e.Merged})
	}
	_, err = fmt.Fprintln(w, address)
	return err
}

// hourOf reads a flag's day or hour; zero when it is empty. end: of a day its last hour.
func hourOf(flag, text string, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		if end {
			t = t.Add(23 * time.Hour)
		}
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, badConfig(errors.New("--" + flag + " is neither a day (2026-11-20) nor an hour (2026-11-20T06)"))
}
