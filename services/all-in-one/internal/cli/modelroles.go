package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const rolesText = `Stream-processors follow the roles of models that their configuration names without a version:

  stream_processor:
    detection_revision: 1                    # or higher
    detection:
      detect:
        detectors: [..., champion, shadow]   # beside those that are there
        models:
          champions: [{name: NAME}]
          shadows: [{name: NAME}]

A change of roles comes into force at an offset of each partition, so a replay judges as was judged then, and evidence names the version. Where the
configuration names a version, or not the model, the stream goes on as it was. With a stream-processor at --processor the command waits until it judges so.`

// roles gives a version its role. The one that was champion becomes the shadow of the one that takes its place; "none" leaves nobody in the shadow.
func (t *trainer) roles(use, short string, shadow bool) *cobra.Command {
	var processor string
	var wait time.Duration
	cmd := t.command(use+" NAME@VERSION", short, rolesText, cobra.RangeArgs(1, 2), func(cmd *cobra.Command, args []string) error {
		name, version, ok := strings.Cut(strings.Join(args, "@"), "@")
		if !ok || version == "" || strings.Contains(version, "@") {
			return badConfig(fmt.Errorf("%q: want NAME@VERSION", strings.Join(args, " ")))
		}
		path := "/v1/models/" + url.PathEscape(name)
		var m modelAnswer
		if err := t.call(cmd.Context(), http.MethodGet, path, nil, &m); err != nil {
			return err
		}
		switch {
		case shadow && version == "none":
			m.Challenger = ""
		case shadow:
			m.Challenger = version
		case version != m.Champion:
			m.Champion, m.Challenger = version, m.Champion
		}
		if m.Challenger == m.Champion {
			return badConfig(fmt.Errorf("%s is the champion", version))
		}
		if err := t.call(cmd.Context(), http.MethodPut, path+"/roles", map[string]string{"champion": m.Champion, "challenger": m.Challenger}, &m); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: champion %s, shadow %s\n", name, m.Champion, orNone(m.Challenger))
		if version == "none" || wait <= 0 {
			return nil
		}
		role := "champion"
		if shadow {
			role = "shadow"
		}
		return followed(cmd, processor, role, name+"@"+version, wait)
	})
	cmd.Flags().StringVar(&processor, "processor", "http://127.0.0.1:8082", "`URL` of a stream-processor that is asked whether it judges so")
	cmd.Flags().DurationVar(&wait, "wait", 15*time.Second, "how long it is asked; 0: not at all")
	return cmd
}

// followed waits until the stream-processor judges by the model in that role, and says so; or that it does not, and what that may be due to.
func followed(cmd *cobra.Command, processor, role, ref string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), wait)
	defer cancel()
	out := cmd.OutOrStdout()
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for {
		n, err := partitionsJudgedBy(ctx, processor, role, ref)
		switch {
		case err != nil && ctx.Err() == nil:
			fmt.Fprintf(out, "no stream-processor answers at %s; those that follow the model take it over: tocsin models %s --help\n", processor, map[string]string{"champion": "promote", "shadow": "shadow"}[role])
			return nil
		case n > 0:
			fmt.Fprintf(out, "the stream-processor at %s judges %d partitions by it\n", processor, n)
			return nil
		}
		select {
		case <-ctx.Done():
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			fmt.Fprintf(out, `the stream-processor at %s does not judge by it: its configuration names another version, or not the model, or the model is none for streams
(an isolation forest of at most 128 KiB: --parameters '{"trees":50,"subsample":128}'); its log says more. To follow the model's roles:

%s
`, processor, strings.ReplaceAll(rolesText[strings.Index(rolesText, "  stream_processor"):strings.Index(rolesText, "\n\nA change")], "NAME", ref[:strings.Index(ref, "@")]))
			return nil
		case <-every.C:
		}
	}
}

const maxMetrics = 32 << 20

// partitionsJudgedBy reads a stream-processor's metrics.
func partitionsJudgedBy(ctx context.Context, processor, role, ref string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(processor, "/")+"/metrics", nil)
	if err != nil {
		return 0, badConfig(fmt.Errorf("--processor: %w", err))
	}
	answer, err := (&http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxMetrics))
	if err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, errors.New(answer.Status)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("tocsin_processor_model_partitions{role=%q,model=%q} ", role, ref)); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(n), err
		}
	}
	return 0, nil
}
