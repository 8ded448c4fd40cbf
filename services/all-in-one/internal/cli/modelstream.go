package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// overStream is a command about what models did in the stream for some time: all of them, or the one that is named. path answers, write shows the answer to people.
func (t *trainer) overStream(use, short, long, path, within string, write func(io.Writer, json.RawMessage) error) *cobra.Command {
	var since time.Duration
	var from, to string
	var asJSON bool
	cmd := t.command(use, short, long, cobra.MaximumNArgs(1), func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		if len(args) > 0 {
			q.Set("model", args[0])
		}
		if from == "" {
			from = time.Now().Add(-since).UTC().Format(time.RFC3339)
		}
		q.Set("from", from)
		if to != "" {
			q.Set("to", to)
		}
		var raw json.RawMessage
		if err := t.call(cmd.Context(), http.MethodGet, path+"?"+q.Encode(), nil, &raw); err != nil {
			return err
		}
		if asJSON {
			return indented(cmd.OutOrStdout(), raw)
		}
		return write(cmd.OutOrStdout(), raw)
	})
	f := cmd.Flags()
	f.DurationVar(&since, "since", 24*time.Hour, within)
	f.StringVar(&from, "from", "", "... or since a `TIME`, RFC 3339")
	f.StringVar(&to, "to", "", "... until a `TIME`, RFC 3339; default: now")
	f.BoolVar(&asJSON, "json", false, "print the whole answer as JSON")
	return cmd
}
