package sets

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

func nab() *Set {
	const leaderboard = "NAB repository, leaderboard of v1.1 (github.com/numenta/NAB), all 58 files"
	return &Set{
		Name:  "nab",
		Title: "Numenta Anomaly Benchmark: single series",
		Protocol: "No training; the first 15 % of each file (at most 750 rows) do not count; the benchmark's scoring function, for each profile at the one threshold on the score, " +
			"the same for all files, that is best for it.",
		Layout: "nab/combined_windows.json, nab/data/<category>/*.csv as published",
		Metrics: []Metric{
			{Key: "standard", Title: "standard", Digits: 1, Goal: goal(72), About: "100: each window at its first row and nothing else; 0: silence"},
			{Key: "lowFP", Title: "low FP", Digits: 1, Goal: goal(66), About: "false alarms weigh double"},
			{Key: "lowFN", Title: "low FN", Digits: 1, Goal: goal(77), About: "missed windows weigh double"},
			{Key: "own", Title: "own thresholds", Digits: 1, About: "standard profile with the best threshold of each file: a bound, no result"},
			{Key: "hit", Title: "windows %", Digits: 1, About: "hit, standard profile"},
			{Key: "false", Title: "false rows", Digits: 0, Lower: true, About: "outside windows at the standard profile's threshold"},
			{Key: "flagged", Title: "flags: windows %", Digits: 1, About: "hit by flags at the default budget"},
			{Key: "flagFAR", Title: "FAR %", Digits: 2, Lower: true, About: "rows outside windows flagged at the default budget"},
		},
		Anchors: []Anchor{
			{"ARTime", leaderboard, map[string]float64{"standard": 74.9, "lowFP": 65.2, "lowFN": 80.4}},
			{"Numenta HTM", leaderboard, map[string]float64{"standard": 70.1, "lowFP": 63.1, "lowFN": 74.3}},
			{"CAD OSE", leaderboard, map[string]float64{"standard": 69.9, "lowFP": 67.0, "lowFN": 73.2}},
			{"random cut forest", leaderboard, map[string]float64{"standard": 51.7, "lowFP": 38.4, "lowFN": 59.7}},
			{"windowed Gaussian", leaderboard, map[string]float64{"standard": 39.6, "lowFP": 20.9, "lowFN": 47.4}},
		},
		Load:  loadNAB,
		Score: scoreNAB,
	}
}

func loadNAB(dir string) ([]*trial.Trial, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "combined_windows.json"))
	if err != nil {
		return nil, err
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(raw, &windows); err != nil {
		return nil, fmt.Errorf("combined_windows.json: %w", err)
	}
	var out []*trial.Trial
	for _, name := range slices.Sorted(maps.Keys(windows)) {
		path := filepath.Join(dir, "data", filepath.FromSlash(name))
		if _, err := os.Stat(path); err != nil {
			continue // the windows may be those of the whole benchmark, the files some of them
		}
		t, err := loadNABFile(path, windows[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t.Name = name
		out = append(out, t)
	}
	return out, nil
}

func loadNABFile(path string, windows [][2]string) (*trial.Trial, error) {
	d, err := readTable(path, ',')
	if err != nil {
		return nil, err
	}
	at, err := d.column("timestamp")
	if err != nil {
		return nil, err
	}
	first := map[string]int{} // a stamp that comes twice means its first row
	for i, r := range d.rows {
		if s := nabStamp(r[at]); s != "" {
			if _, ok := first[s]; !ok {
				first[s] = i
			}
		}
	}
	t := &trial.Trial{Input: path, Sensors: d.sensors("timestamp"), From: score.NABProbation(len(d.rows))}
	var events []score.Interval
	for _, w := range windows {
		a, okA := first[nabStamp(w[0])]
		b, okB := first[nabStamp(w[1])]
		if !okA || !okB || b < a || len(events) > 0 && a <= events[len(events)-1].Last {
			return nil, fmt.Errorf("window %s .. %s does not fit the file", w[0], w[1])
		}
		events = append(events, score.Interval{First: a, Last: b})
	}
	t.SetEvents(len(d.rows), events)
	return t, nil
}

// nabStamp is a time without its fraction: the windows have one, the files have not.
func nabStamp(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), ".")
	return strings.Replace(s, "T", " ", 1)
}

func scoreNAB(judged []*trial.Judged) (Figures, error) {
	var corpus score.NAB
	for _, j := range judged {
		corpus.Add(j.Scores, j.Events)
	}
	fig := Figures{Values: map[string]float64{}}
	var standard score.NABResult
	for i, p := range score.NABProfiles() {
		r := corpus.Optimize(p)
		fig.Values[[]string{"standard", "lowFP", "lowFN"}[i]] = r.Score
		if i == 0 {
			standard = r
		}
	}
	fig.Threshold = standard.Threshold
	windows, own := 0, 0.0
	var flagged score.Events
	var rows score.Confusion
	for _, j := range judged {
		windows += len(j.Events)
		anomalous, flags, scores := j.Scored()
		flagged.Add(anomalous, flags)
		rows.Add(anomalous, flags)
		fires := score.AtLeast(scores, standard.Threshold)
		var e score.Events
		var c score.Confusion
		e.Add(anomalous, fires)
		c.Add(anomalous, fires)
		var one score.NAB
		one.Add(j.Scores, j.Events)
		values := map[string]float64{"hit": percent(e.Recall()), "false": float64(c.FP)}
		if len(j.Events) > 0 {
			values["standard"] = one.At(score.NABProfiles()[0], standard.Threshold).Score
			best := one.Optimize(score.NABProfiles()[0]).Score
			values["own"] = best
			own += best * float64(len(j.Events))
		}
		fig.Cases = append(fig.Cases, Case{j.Name, found(e.Found, e.Total), values})
	}
	// A file's score is normalised by its windows, so the corpus' is their mean weighted by windows.
	fig.Values["own"] = own / float64(max(windows, 1))
	fig.Values["hit"] = percent(float64(standard.Hit) / float64(max(windows, 1)))
	fig.Values["false"] = float64(standard.FalseRows)
	fig.Values["flagged"] = percent(flagged.Recall())
	fig.Values["flagFAR"] = percent(rows.FAR())
	return fig, nil
}
