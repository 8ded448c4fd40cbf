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

func batadal() *Set {
	const ranking = "Taormina et al., Battle of the Attack Detection Algorithms, J. Water Resour. Plan. Manage. 144(8), 2018, the competition's test set"
	return &Set{
		Name:     "batadal",
		Title:    "BATADAL: a water network under attack, 43 tags, hourly",
		Protocol: "Learned from dataset03.csv (a year without attacks); every row counts; flags at the default budget. Root cause: shares summed over an attack's flagged rows.",
		Layout:   "batadal/dataset03.csv, batadal/intervals.csv and the files that it names, batadal/attacks.json",
		Metrics: []Metric{
			{Key: "s", Title: "S", Digits: 3, Goal: goal(0.94), About: "the competition's score: time to detection and balanced accuracy"},
			{Key: "f1", Title: "F1", Digits: 3, Goal: goal(0.85), About: "of rows"},
			{Key: "found", Title: "attacks %", Digits: 1, Goal: goal(100), About: "with a flag"},
			{Key: "far", Title: "FAR %", Digits: 2, Lower: true, Goal: goal(1), About: "normal rows flagged"},
			{Key: "mar", Title: "MAR %", Digits: 1, Lower: true, About: "anomalous rows not flagged"},
			{Key: "delay", Title: "delay", Digits: 0, Lower: true, About: "median hours to the first flag of an attack that was found"},
			{Key: "top1", Title: "cause top-1", Digits: 2, Goal: goal(0.85), About: "attacks whose first suspect is an accepted cause"},
			{Key: "top3", Title: "top-3", Digits: 2, About: "an accepted cause among the first three suspects"},
			{Key: "early1", Title: "early top-1", Digits: 2, About: "by the first 10 flagged rows only"},
			{Key: "auc", Title: "AUC", Digits: 3, About: "of the score"},
			{Key: "best", Title: "best F1", Digits: 3, About: "over all thresholds of the score: a bound, no result"},
		},
		Anchors: []Anchor{
			{"Housh, Ohar", ranking, map[string]float64{"s": 0.970}},
			{"Abokifa et al.", ranking, map[string]float64{"s": 0.949}},
			{"autoencoder", "github.com/rtaormina/aeed, the competition's test set", map[string]float64{"f1": 0.78}},
		},
		Load:  loadBatadal,
		Score: scoreBatadal,
	}
}

func loadBatadal(dir string) ([]*trial.Trial, error) {
	trials, err := intervals(dir, "intervals.csv", "ATT_FLAG")
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "attacks.json"))
	if err != nil {
		return nil, err
	}
	var attacks []struct {
		Accepted []string `json:"accepted_root_cause_tags"`
	}
	if err := json.Unmarshal(raw, &attacks); err != nil {
		return nil, fmt.Errorf("attacks.json: %w", err)
	}
	n := 0
	for _, t := range trials {
		t.Train = filepath.Join(dir, "dataset03.csv")
		t.Sensors = slices.DeleteFunc(t.Sensors, func(s string) bool { return s == "DATETIME" })
		for range t.Events {
			if n >= len(attacks) {
				return nil, fmt.Errorf("attacks.json names %d attacks, intervals.csv has more", n)
			}
			t.Accepted = append(t.Accepted, attacks[n].Accepted)
			n++
		}
	}
	return trials, nil
}

func scoreBatadal(judged []*trial.Judged) (Figures, error) {
	var rows score.Confusion
	var events score.Events
	var whole, early score.RootCauses
	var all struct {
		anomalous []bool
		scores    []float64
	}
	fig := Figures{}
	for _, j := range judged {
		anomalous, flags, scores := j.Scored()
		rows.Add(anomalous, flags)
		events.Add(anomalous, flags)
		all.anomalous, all.scores = append(all.anomalous, anomalous...), append(all.scores, scores...)
		for i, v := range j.Events {
			named, err := suspects(&whole, j, i, j.Flags, 0)
			if err != nil {
				return fig, err
			}
			if _, err := suspects(&early, j, i, j.Flags, 10); err != nil {
				return fig, err
			}
			share, delay := firing(j.Anomalous[v.First:v.Last+1], j.Flags[v.First:v.Last+1])
			fig.Cases = append(fig.Cases, Case{
				fmt.Sprintf("%s event %d", j.Name, i+1),
				fmt.Sprintf("rows %d..%d; suspects: %s; accepted: %s", v.First, v.Last, strings.Join(named[:min(3, len(named))], ", "), strings.Join(j.Accepted[i], ", ")),
				map[string]float64{"mar": percent(1 - share), "delay": float64(delay)},
			})
		}
	}
	r, _ := score.Rank(all.anomalous, all.scores)
	fig.Values = map[string]float64{
		"s": score.Batadal(&events, &rows), "f1": rows.F1(), "found": percent(events.Recall()), "far": percent(rows.FAR()), "mar": percent(rows.MAR()), "delay": score.Median(events.Delays),
		"top1": top(&whole, judged, 1), "top3": top(&whole, judged, 3), "early1": top(&early, judged, 1), "auc": r.AUC, "best": r.BestF1,
	}
	return fig, nil
}
