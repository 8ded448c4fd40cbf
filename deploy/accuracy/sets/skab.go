package sets

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// skabTraining is the benchmark's: the first rows of each file are learned from and never scored.
const skabTraining = 400

func skab() *Set {
	const leaderboard = "SKAB repository, leaderboard of v0.9 (github.com/waico/SKAB), all 34 files"
	return &Set{
		Name:  "skab",
		Title: "SKAB: water circulation testbed, 8 sensors at 1 Hz",
		Protocol: "The first 400 rows of each file are learned from; rows of all files pooled; flags at the default budget. Change points: each change of flag, in a window " +
			"of 60 s from the true one.",
		Layout: "skab/{valve1,valve2,other}/*.csv as published (';', columns datetime, ..., anomaly, changepoint)",
		Metrics: []Metric{
			{Key: "f1", Title: "F1", Digits: 3, Goal: goal(0.85), About: "of rows"},
			{Key: "far", Title: "FAR %", Digits: 1, Lower: true, Goal: goal(8), About: "normal rows flagged"},
			{Key: "mar", Title: "MAR %", Digits: 1, Lower: true, Goal: goal(20), About: "anomalous rows not flagged"},
			{Key: "nab", Title: "NAB", Digits: 1, Goal: goal(40), About: "change points, standard profile"},
			{Key: "nabLowFP", Title: "low FP", Digits: 1, About: "change points"},
			{Key: "nabLowFN", Title: "low FN", Digits: 1, About: "change points"},
			{Key: "found", Title: "events %", Digits: 1, About: "anomalies with a flag"},
			{Key: "delay", Title: "delay", Digits: 0, Lower: true, About: "median rows to the first flag of an anomaly that was found"},
			{Key: "auc", Title: "AUC", Digits: 3, About: "of the score, pooled rows"},
			{Key: "best", Title: "best F1", Digits: 3, About: "over all thresholds of the score: a bound, no result"},
		},
		Anchors: []Anchor{
			{"Conv-AE", leaderboard, map[string]float64{"f1": 0.78, "far": 13.6, "mar": 28.0}},
			{"MSET", leaderboard, map[string]float64{"f1": 0.78, "far": 39.7, "mar": 14.1}},
			{"T2 + Q (PCA)", leaderboard, map[string]float64{"f1": 0.76, "far": 26.6, "mar": 24.9}},
			{"isolation forest", leaderboard, map[string]float64{"f1": 0.29, "far": 2.6, "mar": 82.9}},
			{"best change points", leaderboard, map[string]float64{"nab": 32.4}},
		},
		Load:  loadSKAB,
		Score: scoreSKAB,
	}
}

func loadSKAB(dir string) ([]*trial.Trial, error) {
	var out []*trial.Trial
	for _, group := range []string{"valve1", "valve2", "other"} {
		files, err := filepath.Glob(filepath.Join(dir, group, "*.csv"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			t, err := loadSKABFile(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			t.Name = group + "/" + filepath.Base(f)
			out = append(out, t)
		}
	}
	return out, nil
}

func loadSKABFile(path string) (*trial.Trial, error) {
	d, err := readTable(path, ';')
	if err != nil {
		return nil, err
	}
	t := &trial.Trial{
		Input: path, TrainRows: skabTraining, From: min(skabTraining, len(d.rows)),
		Ignore: []string{"anomaly", "changepoint"}, Sensors: d.sensors("datetime", "anomaly", "changepoint"),
	}
	anomalous, err := d.mask("anomaly")
	if err != nil {
		return nil, err
	}
	t.SetEvents(len(anomalous), score.Runs(anomalous))
	if t.ChangePoint, err = d.mask("changepoint"); err != nil {
		return nil, err
	}
	at, err := d.column("datetime")
	if err != nil {
		return nil, err
	}
	for _, r := range d.rows {
		stamp, err := time.Parse("2006-01-02 15:04:05", r[at])
		if err != nil {
			return nil, err
		}
		t.Seconds = append(t.Seconds, float64(stamp.Unix()))
	}
	return t, nil
}

func scoreSKAB(judged []*trial.Judged) (Figures, error) {
	var rows score.Confusion
	var events score.Events
	var changes score.ChangePoints
	var all struct {
		anomalous []bool
		scores    []float64
	}
	fig := Figures{}
	for _, j := range judged {
		anomalous, flags, scores := j.Scored()
		var c score.Confusion
		var e score.Events
		c.Add(anomalous, flags)
		e.Add(anomalous, flags)
		rows.Add(anomalous, flags)
		events.Add(anomalous, flags)
		changes.Add(j.Seconds[j.From:], j.ChangePoint[j.From:], flags)
		all.anomalous, all.scores = append(all.anomalous, anomalous...), append(all.scores, scores...)
		r, _ := score.Rank(anomalous, scores)
		fig.Cases = append(fig.Cases, Case{j.Name, found(e.Found, e.Total), map[string]float64{
			"f1": c.F1(), "far": percent(c.FAR()), "mar": percent(c.MAR()), "delay": score.Median(e.Delays), "auc": r.AUC, "best": r.BestF1,
		}})
	}
	r, _ := score.Rank(all.anomalous, all.scores)
	p := score.NABProfiles()
	fig.Values = map[string]float64{
		"f1": rows.F1(), "far": percent(rows.FAR()), "mar": percent(rows.MAR()),
		"nab": changes.Score(p[0]), "nabLowFP": changes.Score(p[1]), "nabLowFN": changes.Score(p[2]),
		"found": percent(events.Recall()), "delay": score.Median(events.Delays), "auc": r.AUC, "best": r.BestF1,
	}
	return fig, nil
}
