package sets

import (
	"path/filepath"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

func smapMSL() *Set {
	return &Set{
		Name:     "smap_msl",
		Title:    "SMAP and MSL: spacecraft telemetry, one channel and its commands",
		Protocol: "Learned from train/<channel>.csv; flags at the default budget in test/<channel>.csv. Events, no point adjustment: found if flagged once; an alarm is a run of flags.",
		Layout:   "smap_msl/intervals.csv, smap_msl/{train,test}/<channel>.csv",
		Metrics: []Metric{
			{Key: "recall", Title: "event recall", Digits: 3, Goal: goal(0.75), About: "anomalies found"},
			{Key: "precision", Title: "precision", Digits: 3, Goal: goal(0.75), About: "alarms that touch an anomaly"},
			{Key: "f1", Title: "event F1", Digits: 3, About: "of both"},
			{Key: "delay", Title: "delay", Digits: 0, Lower: true, About: "median rows to the first flag of an anomaly that was found"},
			{Key: "far", Title: "FAR %", Digits: 2, Lower: true, About: "normal rows flagged"},
			{Key: "rowF1", Title: "row F1", Digits: 3, About: "of rows"},
			{Key: "auc", Title: "AUC", Digits: 3, About: "of the score, mean over channels"},
		},
		Anchors: []Anchor{
			{"telemanom", "Hundman et al., Detecting Spacecraft Anomalies Using LSTMs, KDD 2018: all 82 channels, event recall 80.0 %, precision 87.5 %", map[string]float64{"recall": 0.800, "precision": 0.875}},
		},
		Load: func(dir string) ([]*trial.Trial, error) {
			trials, err := intervals(dir, "intervals.csv", "t")
			for _, t := range trials {
				t.Train = filepath.Join(dir, "train", filepath.Base(t.Input))
				t.Name = strings.TrimPrefix(t.Name, "test/")
			}
			return trials, err
		},
		Score: scoreSMAP,
	}
}

func scoreSMAP(judged []*trial.Judged) (Figures, error) {
	var rows score.Confusion
	var events score.Events
	fig := Figures{}
	sum, ranked := 0.0, 0
	for _, j := range judged {
		anomalous, flags, scores := j.Scored()
		rows.Add(anomalous, flags)
		events.Add(anomalous, flags)
		var c score.Confusion
		var e score.Events
		c.Add(anomalous, flags)
		e.Add(anomalous, flags)
		r, ok := score.Rank(anomalous, scores)
		if ok {
			sum += r.AUC
			ranked++
		}
		fig.Cases = append(fig.Cases, Case{j.Name, found(e.Found, e.Total), map[string]float64{
			"recall": e.Recall(), "precision": e.Precision(), "delay": score.Median(e.Delays), "far": percent(c.FAR()), "rowF1": c.F1(), "auc": r.AUC,
		}})
	}
	fig.Values = map[string]float64{
		"recall": events.Recall(), "precision": events.Precision(), "f1": events.F1(), "delay": score.Median(events.Delays),
		"far": percent(rows.FAR()), "rowF1": rows.F1(), "auc": sum / float64(max(ranked, 1)),
	}
	return fig, nil
}
