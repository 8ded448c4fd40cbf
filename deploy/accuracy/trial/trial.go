// Package trial is one file judged by the production path: what goes into `tocsin backtest`, what is known of the file, and what came back.
package trial

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
)

// Trial is a file to judge. Row slices have one entry for each row of Input. Read-only once made: it may be used by several goroutines.
type Trial struct {
	Name      string   // what tables call it
	Input     string   // path of the CSV file
	Train     string   // path of a file of the same sensors that is learned from first; empty: none
	TrainRows int      // rows of Input that are only learned from
	Ignore    []string // columns that are not sensors: labels, row numbers
	Sensors   []string // the columns that are

	From        int              // first row that counts
	Anomalous   []bool           // labels
	Events      []score.Interval // the labels as intervals; those that touch stay apart
	Accepted    [][]string       // for each event, the sensors accepted as its cause; nil: not known
	Kinds       []string         // for each event, what kind of anomaly it is; nil: not known
	ChangePoint []bool           // where the machine changed; nil: not known
	Seconds     []float64        // time of each row; nil: not needed
}

// Rows of the input.
func (t *Trial) Rows() int { return len(t.Anomalous) }

// SetEvents labels the rows.
func (t *Trial) SetEvents(rows int, events []score.Interval) {
	t.Events, t.Anomalous = events, make([]bool, rows)
	for _, v := range events {
		for i := max(0, v.First); i <= v.Last && i < rows; i++ {
			t.Anomalous[i] = true
		}
	}
}

// Check that the files are there.
func (t *Trial) Check() error {
	var broken []error
	for _, f := range []string{t.Input, t.Train} {
		if f == "" {
			continue
		}
		if _, err := os.Stat(f); err != nil {
			broken = append(broken, err)
		}
	}
	return errors.Join(broken...)
}

// Verdicts is what was said of each row.
type Verdicts struct {
	Scores []float64 // in [0,1]
	Flags  []bool    // at the configured budget
	// Shares is the contributions column, not yet parsed; nil for the controls.
	Shares []string
}

// Judged is a trial and its verdicts.
type Judged struct {
	*Trial
	*Verdicts
}

// Scored are the rows that count.
func (j *Judged) Scored() (anomalous, flags []bool, scores []float64) {
	return j.Anomalous[j.From:], j.Flags[j.From:], j.Scores[j.From:]
}

// FlagEverything is the control that cries at each row.
func FlagEverything(trials []*Trial) []*Judged {
	out := make([]*Judged, 0, len(trials))
	for _, t := range trials {
		v := &Verdicts{Scores: slices.Repeat([]float64{1}, t.Rows()), Flags: slices.Repeat([]bool{true}, t.Rows())}
		out = append(out, &Judged{t, v})
	}
	return out
}

// Random is the control that scores by chance and flags as many rows as ours did. The seed is fixed: two reports show the same control.
func Random(ours []*Judged) []*Judged {
	flagged, rows := 0, 0
	for _, j := range ours {
		_, flags, _ := j.Scored()
		rows += len(flags)
		for _, f := range flags {
			if f {
				flagged++
			}
		}
	}
	threshold := 1 - float64(flagged)/float64(max(rows, 1))
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]*Judged, 0, len(ours))
	for _, j := range ours {
		v := &Verdicts{Scores: make([]float64, j.Rows())}
		for i := range v.Scores {
			v.Scores[i] = rng.Float64()
		}
		v.Flags = score.AtLeast(v.Scores, threshold)
		out = append(out, &Judged{j.Trial, v})
	}
	return out
}
