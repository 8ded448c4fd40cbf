package sets

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// contamination is the share of anomalous rows in the scenarios, which the detectors they are compared with are told.
const contamination = 0.10

func synthetic() *Set {
	const sklearn = "scikit-learn at contamination 0.1, figures of the scenarios' document"
	return &Set{
		Name:  "synthetic",
		Title: "Scenarios: gaussian, clustered, high-dimensional (independent rows), temporal",
		Protocol: "<scenario>_train.csv is learned from (10 % of it anomalous, labels not used), <scenario>_test.csv scored; temporal.csv learns from its first 30 %. F1 of rows where " +
			"as many rows fire as 10 % of the file; mean over the seeds. Independent rows are no time series: what judges streams is shown here, models for them come with the model-trainer.",
		Layout: "synthetic/seed_*/{gaussian,clustered,highdim}_{train,test}.csv, synthetic/seed_*/{temporal,intervals}.csv",
		Metrics: []Metric{
			{Key: "gaussian", Title: "gaussian F1", Digits: 3, Goal: goal(0.89), About: "10 features"},
			{Key: "clustered", Title: "clustered F1", Digits: 3, Goal: goal(0.92), About: "4 clusters, 5 features"},
			{Key: "highdim", Title: "highdim F1", Digits: 3, Goal: goal(0.89), About: "50 features"},
			{Key: "temporal", Title: "temporal F1", Digits: 3, Goal: goal(0.92), About: "8 sensors with cycles and coupling"},
			{Key: "gaussianAUC", Title: "AUC: gaussian", Digits: 3, About: "of the score"},
			{Key: "clusteredAUC", Title: "clustered", Digits: 3, About: "of the score"},
			{Key: "highdimAUC", Title: "highdim", Digits: 3, About: "of the score"},
			{Key: "temporalAUC", Title: "temporal", Digits: 3, About: "of the score"},
			{Key: "flagF1", Title: "temporal flags: F1", Digits: 3, About: "at the default budget"},
			{Key: "flagFAR", Title: "FAR %", Digits: 2, Lower: true, About: "at the default budget"},
			{Key: "flagFound", Title: "events %", Digits: 1, About: "temporal anomalies with a flag at the default budget"},
			{Key: "top1", Title: "cause top-1", Digits: 2, About: "temporal events, by flagged rows"},
		},
		Anchors: []Anchor{
			{"isolation forest", sklearn, map[string]float64{"gaussian": 0.82, "clustered": 0.82, "highdim": 0.86}},
			{"local outlier factor", sklearn, map[string]float64{"gaussian": 0.87, "clustered": 0.90, "highdim": 0.77}},
			{"one-class SVM", sklearn, map[string]float64{"gaussian": 0.84, "clustered": 0.81, "highdim": 0.87}},
			{"residual of a forecast", "figure of the scenarios' document", map[string]float64{"temporal": 0.85}},
		},
		Load:  loadSynthetic,
		Score: scoreSynthetic,
	}
}

func loadSynthetic(dir string) ([]*trial.Trial, error) {
	seeds, err := filepath.Glob(filepath.Join(dir, "seed_*"))
	if err != nil {
		return nil, err
	}
	var out []*trial.Trial
	for _, seed := range seeds {
		for _, scenario := range []string{"gaussian", "clustered", "highdim"} {
			t := &trial.Trial{
				Name:  filepath.Base(seed) + "/" + scenario,
				Input: filepath.Join(seed, scenario+"_test.csv"), Train: filepath.Join(seed, scenario+"_train.csv"), Ignore: []string{"label"},
			}
			d, err := readTable(t.Input, ',')
			if err != nil {
				return nil, err
			}
			labels, err := d.mask("label")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.Input, err)
			}
			t.Sensors = d.sensors("label")
			t.SetEvents(len(labels), score.Runs(labels))
			out = append(out, t)
		}
		temporal, err := loadTemporal(seed)
		if err != nil {
			return nil, err
		}
		out = append(out, temporal...)
	}
	return out, nil
}

func loadTemporal(seed string) ([]*trial.Trial, error) {
	trials, err := intervals(seed, "intervals.csv", "t", "label", "kind", "sensors")
	if err != nil {
		return nil, err
	}
	for _, t := range trials {
		d, err := readTable(t.Input, ',')
		if err != nil {
			return nil, err
		}
		touched, err := d.column("sensors")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Input, err)
		}
		kind, err := d.column("kind")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Input, err)
		}
		if len(d.rows) != t.Rows() {
			return nil, fmt.Errorf("%s has %d rows, intervals.csv says %d", t.Input, len(d.rows), t.Rows())
		}
		for _, v := range t.Events {
			if v.First < t.From {
				return nil, fmt.Errorf("%s: an anomaly begins at row %d, among those that are learned from", t.Input, v.First)
			}
			t.Accepted = append(t.Accepted, strings.Fields(d.rows[v.First][touched]))
			t.Kinds = append(t.Kinds, d.rows[v.First][kind])
		}
		t.Name = filepath.Base(seed) + "/temporal"
		t.TrainRows = t.From
	}
	return trials, nil
}

func scoreSynthetic(judged []*trial.Judged) (Figures, error) {
	fig := Figures{Values: map[string]float64{}}
	count := map[string]int{}
	var flags score.Confusion
	var events score.Events
	var causes score.RootCauses
	kinds := map[string]*kindCount{}
	for _, j := range judged {
		anomalous, flag, scores := j.Scored()
		// The share is of the whole file; the part that is learned from has none of it.
		fires := score.Top(scores, contamination*float64(j.Rows())/float64(len(scores)))
		var c score.Confusion
		c.Add(anomalous, fires)
		r, _ := score.Rank(anomalous, scores)
		scenario := filepath.Base(j.Name)
		count[scenario]++
		fig.Values[scenario] += c.F1()
		fig.Values[scenario+"AUC"] += r.AUC
		values := map[string]float64{scenario: c.F1(), scenario + "AUC": r.AUC}
		kase := Case{j.Name, "", values}
		if j.Accepted != nil {
			var one score.Confusion
			var e score.Events
			one.Add(anomalous, flag)
			e.Add(anomalous, flag)
			flags.Add(anomalous, flag)
			events.Add(anomalous, flag)
			values["flagF1"], values["flagFAR"], values["flagFound"] = one.F1(), percent(one.FAR()), percent(e.Recall())
			kase.Note = found(e.Found, e.Total)
			for i, v := range j.Events {
				if kinds[j.Kinds[i]] == nil {
					kinds[j.Kinds[i]] = new(kindCount)
				}
				kinds[j.Kinds[i]].add(fires[v.First-j.From:v.Last-j.From+1], j.Flags[v.First:v.Last+1])
				if _, err := suspects(&causes, j, i, j.Flags, 0); err != nil {
					return fig, err
				}
			}
		}
		fig.Cases = append(fig.Cases, kase)
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		fig.Cases = append(fig.Cases, Case{Name: "temporal, " + k, Note: kinds[k].String()})
	}
	for scenario, n := range count {
		fig.Values[scenario] /= float64(n)
		fig.Values[scenario+"AUC"] /= float64(n)
	}
	fig.Values["flagF1"], fig.Values["flagFAR"], fig.Values["flagFound"] = flags.F1(), percent(flags.FAR()), percent(events.Recall())
	fig.Values["top1"] = top(&causes, judged, 1)
	return fig, nil
}

// kindCount says how well anomalies of one kind are found.
type kindCount struct{ events, found, flagged, rows, fired int }

func (k *kindCount) add(fires, flags []bool) {
	k.events++
	if slices.Contains(fires, true) {
		k.found++
	}
	if slices.Contains(flags, true) {
		k.flagged++
	}
	k.rows += len(fires)
	for _, f := range fires {
		if f {
			k.fired++
		}
	}
}

func (k *kindCount) String() string {
	return fmt.Sprintf("%d events: %d fire, %d flagged; %.0f %% of %d rows fire", k.events, k.found, k.flagged, percent(float64(k.fired)/float64(max(k.rows, 1))), k.rows)
}
