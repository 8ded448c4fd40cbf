package sets

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// tepFAR is the share of false alarms at which the literature compares detectors on this process.
const tepFAR = 0.01

// tepHidden are the faults that hardly any method finds; comparisons commonly leave them out.
func tepHidden(name string) bool {
	return slices.ContainsFunc([]string{"d03", "d09", "d15"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

func tep() *Set {
	const literature = "commonly published for this process's test files, mean over faults"
	return &Set{
		Name:  "tep",
		Title: "Tennessee Eastman process: 52 variables",
		Protocol: "Learned from d00.csv; scored dNN_te.csv. Detection rate: the mean over faults (without 3, 9, 15, which hardly any method finds) of the rows that fire, at the " +
			"threshold on the score where 1 % of the normal rows of all files fire. Delay: rows to the first that fires; a missed fault counts with its whole length. " +
			"Root cause: shares summed over the rows that fire.",
		Layout: "tep/{d00,dNN_te}.csv, tep/intervals.csv, tep/faults.json",
		Metrics: []Metric{
			{Key: "rate", Title: "detection", Digits: 3, Goal: goal(0.92), About: "rate at 1 % false alarms, mean over faults"},
			{Key: "delay", Title: "delay", Digits: 0, Lower: true, Goal: goal(6), About: "median over faults, in rows, at 1 % false alarms"},
			{Key: "top1", Title: "cause top-1", Digits: 2, Goal: goal(0.70), About: "faults whose first suspect is an accepted cause"},
			{Key: "top3", Title: "top-3", Digits: 2, Goal: goal(0.85), About: "an accepted cause among the first three suspects"},
			{Key: "early1", Title: "early top-1", Digits: 2, About: "by the first 10 rows that fire only"},
			{Key: "flagRate", Title: "flags: rate", Digits: 3, About: "detection rate of flags at the default budget"},
			{Key: "flagFAR", Title: "FAR %", Digits: 2, Lower: true, About: "normal rows flagged at the default budget"},
			{Key: "flagDelay", Title: "delay", Digits: 0, Lower: true, About: "of flags at the default budget"},
			{Key: "auc", Title: "AUC", Digits: 3, About: "of the score, pooled rows, without the hidden faults"},
		},
		Anchors: []Anchor{
			{"PCA T2", literature, map[string]float64{"rate": 0.61}},
			{"PCA Q", literature, map[string]float64{"rate": 0.74}},
			{"PCA T2 or Q", literature, map[string]float64{"rate": 0.75}},
			{"CVA", literature + ", about", map[string]float64{"rate": 0.94}},
		},
		Load:  loadTEP,
		Score: scoreTEP,
	}
}

func loadTEP(dir string) ([]*trial.Trial, error) {
	trials, err := intervals(dir, "intervals.csv", "row")
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "faults.json"))
	if err != nil {
		return nil, err
	}
	var faults map[string]struct {
		Accepted []string `json:"accepted_root_cause_variables"`
	}
	if err := json.Unmarshal(raw, &faults); err != nil {
		return nil, fmt.Errorf("faults.json: %w", err)
	}
	for _, t := range trials {
		t.Train = filepath.Join(dir, "d00.csv")
		fault, _, _ := strings.Cut(t.Name, "_")
		for range t.Events {
			t.Accepted = append(t.Accepted, faults[fault].Accepted)
		}
	}
	return trials, nil
}

func scoreTEP(judged []*trial.Judged) (Figures, error) {
	var normal []float64
	for _, j := range judged {
		anomalous, _, scores := j.Scored()
		for i, a := range anomalous {
			if !a {
				normal = append(normal, scores[i])
			}
		}
	}
	fig := Figures{Threshold: score.ThresholdAt(normal, tepFAR)}
	var fired, flagged faultRates
	var whole, early score.RootCauses
	var flags score.Confusion
	var pooled struct {
		anomalous []bool
		scores    []float64
	}
	for _, j := range judged {
		anomalous, flag, scores := j.Scored()
		flags.Add(anomalous, flag)
		fires := score.AtLeast(j.Scores, fig.Threshold)
		rate, delay := firing(anomalous, fires[j.From:])
		flagRate, flagDelay := firing(anomalous, flag)
		if !tepHidden(j.Name) {
			pooled.anomalous, pooled.scores = append(pooled.anomalous, anomalous...), append(pooled.scores, scores...)
			if len(j.Events) > 0 {
				fired.add(rate, delay)
				flagged.add(flagRate, flagDelay)
			}
		}
		c := Case{Name: j.Name, Values: map[string]float64{"rate": rate, "delay": float64(delay), "flagRate": flagRate, "flagDelay": float64(flagDelay)}}
		for i, event := range j.Events {
			all, err := suspects(&whole, j, i, fires, 0)
			if err != nil {
				return fig, err
			}
			if _, err := suspects(&early, j, i, fires, 10); err != nil {
				return fig, err
			}
			c.Note = fmt.Sprintf("rows %d..%d; suspects: %s; accepted: %s", event.First, event.Last, strings.Join(all[:min(3, len(all))], ", "), strings.Join(j.Accepted[i], ", "))
		}
		fig.Cases = append(fig.Cases, c)
	}
	r, _ := score.Rank(pooled.anomalous, pooled.scores)
	fig.Values = map[string]float64{
		"rate": fired.mean(), "delay": score.Median(fired.delays), "top1": top(&whole, judged, 1), "top3": top(&whole, judged, 3), "early1": top(&early, judged, 1),
		"flagRate": flagged.mean(), "flagFAR": percent(flags.FAR()), "flagDelay": score.Median(flagged.delays), "auc": r.AUC,
	}
	return fig, nil
}

// suspects ranks the sensors of a trial's i-th event and counts the ranking.
func suspects(count *score.RootCauses, j *trial.Judged, i int, fires []bool, limit int) ([]string, error) {
	s, err := trial.Suspects(j.Verdicts, j.Events[i], fires, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Name, err)
	}
	count.Add(s, j.Accepted[i], len(j.Sensors))
	return s, nil
}

// top is AC@k; of a control, which names nobody, the chance of a random order.
func top(count *score.RootCauses, judged []*trial.Judged, k int) float64 {
	if judged[0].Shares == nil {
		return count.Chance(k)
	}
	return count.Top(k)
}

// firing is the share of anomalous rows that fire, and the rows until the first does: all of them if none does.
func firing(anomalous, fires []bool) (rate float64, delay int) {
	var c score.Confusion
	c.Add(anomalous, fires)
	var e score.Events
	e.Add(anomalous, fires)
	if len(e.Delays) > 0 {
		return c.Recall(), e.Delays[0]
	}
	return 0, c.FN
}

type faultRates struct {
	sum    float64
	delays []int
}

func (f *faultRates) add(rate float64, delay int) {
	f.sum += rate
	f.delays = append(f.delays, delay)
}

func (f *faultRates) mean() float64 { return f.sum / float64(max(len(f.delays), 1)) }
