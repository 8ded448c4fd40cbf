package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// driftAnswer is what is found of one model.
type driftAnswer struct {
	Model     string          `json:"model"`
	State     string          `json:"state"`
	Says      string          `json:"says"`
	Score     *driftVariable  `json:"score"`
	Variables []driftVariable `json:"variables"`
	Retrain   string          `json:"retrain"`
}

type driftVariable struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	PSI    float64  `json:"psi"`
	Bound  float64  `json:"bound"`
	Worth  float64  `json:"worth_windows"`
	Shift  *float64 `json:"shift"`
	Spread *float64 `json:"spread"`
}

func (t *trainer) drift() *cobra.Command {
	return t.overStream("drift [NAME|NAME@VERSION]", "Say whether what models are given in the stream still looks as in training", `Drift holds the scores of each model that the stream asks, and the values of its features, against how its training rows were spread. PSI is the population
stability index less what chance gives: from 0.1 on a feature has moved, from 0.25 on it has drifted (Siddiqi 2006), if that is beyond chance. Windows follow each other
and days have a course, so the windows are worth fewer independent ones; where those are too few to tell, that is said. A model that was trained before references were
kept has none. Nothing is trained by itself: first see whether the sensor or the process is what changed.`, "/v1/drift", "windows are not older than that", func(out io.Writer, raw json.RawMessage) error {
		var answer struct{ Models []driftAnswer }
		if err := json.Unmarshal(raw, &answer); err != nil {
			return err
		}
		if len(answer.Models) == 0 {
			fmt.Fprintln(out, "no stream-processor asked a model in that time")
			return nil
		}
		for i := range answer.Models {
			if err := answer.Models[i].write(out); err != nil {
				return err
			}
		}
		return nil
	})
}

// write writes a model for people.
func (d *driftAnswer) write(out io.Writer) error {
	fmt.Fprintf(out, "%s: %s\n  %s\n", d.Model, strings.ReplaceAll(d.State, "_", " "), d.Says)
	if d.Score != nil {
		w := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  OF\tSTATE\tPSI\tMOVED BY\tVARIES\tWINDOWS WORTH")
		for _, v := range append([]driftVariable{*d.Score}, d.Variables...) {
			moved, varies := "-", "-"
			if v.Shift != nil && v.Spread != nil {
				moved, varies = fmt.Sprintf("%+.2f sd", *v.Shift), fmt.Sprintf("%.2f times", *v.Spread)
			}
			fmt.Fprintf(w, "  %s\t%s\t%.3f\t%s\t%s\t%.0f\n", v.Name, strings.ReplaceAll(v.State, "_", " "), v.PSI, moved, varies, v.Worth)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if d.Retrain != "" {
		fmt.Fprintf(out, "  If the process has changed and not a sensor, train the next version, which becomes the shadow:\n  %s\n", d.Retrain)
	}
	_, err := fmt.Fprintln(out)
	return err
}
