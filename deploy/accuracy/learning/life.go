package learning

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// lifeCap is the customary one: remaining life beyond it is not to be seen in the sensors (Heimes 2008).
const lifeCap = 125

func remainingLife() *Set {
	s := &Set{
		Name: "cmapss", Title: "C-MAPSS: remaining life of turbofan engines, cycles",
		Protocol: "Learned from the runs to failure, one model for each of the four fleets with the same parameters, target capped at 125; predicted at each test engine's last cycle. RMSE against the true remaining life as it " +
			"is, and capped at 125. Test engines: the official ones (test_FD00x.txt, RUL_FD00x.txt) where they are there; else each engine of dev_FD00x.csv, cut where that says, and not learned from. Beside it, the RMSE of the " +
			"model's own cross-validation over all rows of all engines learned from.",
		Layout: "cmapss/train_FD00{1,2,3,4}.txt[.gz] and dev_FD00x.csv, or test_FD00x.txt[.gz] and RUL_FD00x.txt",
		anchors: []sets.Anchor{
			{Name: "deep CNN", Source: "Li, Ding, Sun 2018; official test, capped", Values: map[string]float64{"cFD001": 12.6}},
			{Name: "gradient boosting, features by regime", Source: "reference figures; official test", Values: map[string]float64{
				"uFD001": 11.4, "uFD002": 22.7, "uFD003": 11.2, "uFD004": 23.6, "cFD001": 10.2, "cFD002": 10.3, "cFD003": 9.5, "cFD004": 10.6,
			}},
		},
	}
	for _, fd := range fleets() {
		m := sets.Metric{Key: "u" + fd, Title: fd, Digits: 2, Lower: true, About: "RMSE, truth as it is"}
		if fd == "FD001" || fd == "FD003" {
			m.Goal = goal(11.5)
		}
		s.metrics = append(s.metrics, m)
	}
	for _, fd := range fleets() {
		s.metrics = append(s.metrics, sets.Metric{Key: "c" + fd, Title: fd + " capped", Digits: 2, Lower: true, Goal: goal(10.5), About: "RMSE, truth capped at 125"})
	}
	s.metrics = append(
		s.metrics,
		sets.Metric{Key: "inside", Title: "in interval %", Digits: 0, About: "capped truths inside the 90 % interval"},
		sets.Metric{Key: "cv", Title: "own CV", Digits: 2, Lower: true, About: "RMSE that the model's cross-validation promises, capped, all rows"},
	)
	s.run = judgeLife
	return s
}

func fleets() []string { return []string{"FD001", "FD002", "FD003", "FD004"} }

// lifeParameters is what a user says of such a table.
func lifeParameters() map[string]any {
	return map[string]any{
		"target": "rul", "cap": lifeCap, "folds": 5,
		"recipe": map[string]any{"entity": "unit", "order": "cycle", "context": []string{"op1", "op2", "op3"}},
		"boost":  map[string]any{"trees": 300, "learning_rate": 0.04, "leaves": 15, "min_rows": 40, "row_share": 0.7, "feature_share": 0.3},
	}
}

func judgeLife(ctx context.Context, t *trainer, dir string) (*figures, error) {
	f := &figures{ours: report.Values{}, controls: []report.System{{Name: "mean of the training rows", Values: report.Values{}}, {Name: "always 125", Values: report.Values{}}}}
	inside, engines := 0, 0
	promised := 0.0
	for _, fd := range fleets() {
		train, test, truth, err := loadLife(dir, fd)
		if err != nil {
			return nil, err
		}
		name := "life-" + strings.ToLower(fd)
		said, err := t.learn(ctx, name, lifeParameters(), train, test, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fd, err)
		}
		if len(said) != len(truth) {
			return nil, fmt.Errorf("%s: %d predictions for %d engines", fd, len(said), len(truth))
		}
		mean, n := 0.0, 0.0
		for _, r := range train.rows {
			v, err := strconv.ParseFloat(r[len(r)-1], 64)
			if err != nil {
				return nil, err
			}
			n++
			mean += (min(v, lifeCap) - mean) / n
		}
		var ours, middle, top [2]float64 // sums of squares: truth as it is, capped
		for _, p := range said {
			whole, ok := truth[p.Entity]
			if !ok {
				return nil, fmt.Errorf("%s: nobody asked for engine %q", fd, p.Entity)
			}
			capped := min(whole, lifeCap)
			for k, v := range []float64{whole, capped} {
				ours[k] += (p.Value - v) * (p.Value - v)
				middle[k] += (mean - v) * (mean - v)
				top[k] += (lifeCap - v) * (lifeCap - v)
			}
			if capped >= p.Low && capped <= p.High {
				inside++
			}
			engines++
			f.rows++
		}
		f.files++
		for k, kind := range []string{"u", "c"} {
			of := func(sums [2]float64) float64 { return math.Sqrt(sums[k] / float64(len(said))) }
			f.ours[kind+fd], f.controls[0].Values[kind+fd], f.controls[1].Values[kind+fd] = of(ours), of(middle), of(top)
		}
		cv, err := t.promise(ctx, name)
		if err != nil {
			return nil, err
		}
		promised += cv / float64(len(fleets()))
		f.cases = append(f.cases, report.Case{Name: fd, Note: fmt.Sprintf("%d engines, %d rows learned from", len(said), len(train.rows)), Values: report.Values{"u" + fd: f.ours["u"+fd], "c" + fd: f.ours["c"+fd], "cv": cv}})
	}
	f.ours["inside"], f.ours["cv"] = 100*float64(inside)/float64(engines), promised
	return f, nil
}

// loadLife gives runs to learn from with what is left at each cycle, rows to predict, and what is left at each test engine's end.
func loadLife(dir, fd string) (train, test *table, truth map[string]float64, err error) {
	rows, err := readFields(filepath.Join(dir, "train_"+fd+".txt"))
	if err != nil {
		return nil, nil, nil, err
	}
	names := []string{"unit", "cycle", "op1", "op2", "op3"}
	for i := range 21 {
		names = append(names, "s"+strconv.Itoa(i+1))
	}
	test, truth = &table{names: names}, map[string]float64{}
	last, cut := map[string]float64{}, map[string]float64{}
	for _, r := range rows {
		if len(r) != len(names) {
			return nil, nil, nil, fmt.Errorf("train_%s.txt: a row of %d fields", fd, len(r))
		}
		c, err := strconv.ParseFloat(r[1], 64)
		if err != nil {
			return nil, nil, nil, err
		}
		last[r[0]] = max(last[r[0]], c)
	}
	if exists(filepath.Join(dir, "RUL_"+fd+".txt")) {
		if test.rows, err = readFields(filepath.Join(dir, "test_"+fd+".txt")); err != nil {
			return nil, nil, nil, err
		}
		left, err := readFields(filepath.Join(dir, "RUL_"+fd+".txt"))
		if err != nil {
			return nil, nil, nil, err
		}
		for i, l := range left {
			if truth[strconv.Itoa(i+1)], err = strconv.ParseFloat(l[0], 64); err != nil {
				return nil, nil, nil, err
			}
		}
	} else {
		dev, err := readCSV(filepath.Join(dir, "dev_"+fd+".csv"))
		if err != nil {
			return nil, nil, nil, err
		}
		for _, r := range dev.rows {
			at, err1 := strconv.ParseFloat(r[1], 64)
			left, err2 := strconv.ParseFloat(r[2], 64)
			if err1 != nil || err2 != nil || last[r[0]]-at != left {
				return nil, nil, nil, fmt.Errorf("dev_%s.csv: engine %s does not fit the runs", fd, r[0])
			}
			cut[r[0]], truth[r[0]] = at, left
		}
	}
	train = &table{names: append(append([]string(nil), names...), "rul")}
	for _, r := range rows {
		c, err := strconv.ParseFloat(r[1], 64)
		if err != nil {
			return nil, nil, nil, err
		}
		if at, held := cut[r[0]]; held {
			if c <= at {
				test.rows = append(test.rows, r)
			}
			continue
		}
		train.rows = append(train.rows, append(append([]string(nil), r...), strconv.FormatFloat(last[r[0]]-c, 'f', -1, 64)))
	}
	return train, test, truth, nil
}

// promise is the RMSE of the newest model's own cross-validation.
func (t *trainer) promise(ctx context.Context, name string) (float64, error) {
	var of struct{ Champion string }
	if err := t.call(ctx, "GET", "/v1/models/"+name, nil, &of); err != nil {
		return 0, err
	}
	var header struct{ Quality struct{ RMSE float64 } }
	err := t.call(ctx, "GET", "/v1/models/"+name+"@"+of.Champion, nil, &header)
	return header.Quality.RMSE, err
}
