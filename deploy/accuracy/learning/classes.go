package learning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strconv"

	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

const outerFolds = 5

func failures() *Set {
	return &Set{
		Name: "ai4i2020", Title: "AI4I 2020: failures of a simulated milling machine",
		Protocol: "Machine failure from type, temperatures, speed, torque and tool wear; the columns of failure modes are never read. Five folds by row number, each predicted by a model of the other four, all predictions pooled. " +
			"The probability from which a failure is called is found by a cross-validation inside the rows learned from. Where ai4i2020_test.csv is there: all rows of the first file learned from, that one predicted.",
		Layout: "ai4i2020/ai4i2020_half.csv, and if wanted ai4i2020_test.csv",
		metrics: []sets.Metric{
			{Key: "f1", Title: "F1", Digits: 3, Goal: goal(0.88), About: "of failures"},
			{Key: "precision", Title: "precision", Digits: 3, About: "of calls"},
			{Key: "recall", Title: "recall", Digits: 3, About: "failures called"},
		},
		anchors: []sets.Anchor{{Name: "gradient boosting with physics features", Source: "reference figure", Values: map[string]float64{"f1": 0.870}}},
		run:     judgeFailures,
	}
}

// failureParameters: products and differences of all columns stand for the physics (power, overstrain, temperature difference), so nobody has to know it.
func failureParameters() map[string]any {
	return map[string]any{
		"target": "Machine failure", "task": "classification", "objective": "f1",
		"recipe": map[string]any{
			"categories": []string{"Type"}, "pairs": []string{"product", "difference"}, "ignore": []string{"UDI", "Product ID", "TWF", "HDF", "PWF", "OSF", "RNF"},
		},
		"boost": map[string]any{"trees": 200, "leaves": 8, "min_rows": 3},
	}
}

// folded predicts each row by a model that has not seen its fold, or the rows of test by one that saw all others.
func folded(ctx context.Context, t *trainer, name string, parameters map[string]any, all, test *table, fold func(i int) int) (rows [][]string, said []string, err error) {
	one := func(train, test *table) error {
		got, err := t.learn(ctx, name, parameters, train, test, false)
		if err != nil {
			return err
		}
		if len(got) != len(test.rows) {
			return fmt.Errorf("%d predictions for %d rows", len(got), len(test.rows))
		}
		for _, p := range got {
			rows, said = append(rows, test.rows[p.Row]), append(said, p.Class)
		}
		return nil
	}
	if test != nil {
		return rows, said, errors.Join(one(all, test))
	}
	for k := range outerFolds {
		if err := one(all.pick(func(i int) bool { return fold(i) != k }), all.pick(func(i int) bool { return fold(i) == k })); err != nil {
			return nil, nil, fmt.Errorf("fold %d: %w", k+1, err)
		}
	}
	return rows, said, nil
}

func judgeFailures(ctx context.Context, t *trainer, dir string) (*figures, error) {
	all, err := readCSV(filepath.Join(dir, "ai4i2020_half.csv"))
	if err != nil {
		return nil, err
	}
	test, err := readCSV(filepath.Join(dir, "ai4i2020_test.csv"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rows, said, err := folded(ctx, t, "failure", failureParameters(), all, test, func(i int) int { return i % outerFolds })
	if err != nil {
		return nil, err
	}
	at, err := all.at("Machine failure")
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	var ours, everything, chance confusion
	share := 0.0
	for _, s := range said {
		if s == "1" {
			share += 1 / float64(len(said))
		}
	}
	for i, r := range rows {
		ours.add(r[at] == "1", said[i] == "1")
		everything.add(r[at] == "1", true)
		chance.add(r[at] == "1", random.Float64() < share)
	}
	return &figures{
		files: 1, rows: len(rows), ours: ours.values(),
		controls: []report.System{{Name: "flag everything", Values: everything.values()}, {Name: "random", Values: chance.values()}},
		cases:    []report.Case{{Name: "all rows", Note: fmt.Sprintf("%d failures, %d called, %d of them rightly", ours.there, ours.called, ours.hit), Values: ours.values()}},
	}, nil
}

type confusion struct{ hit, called, there int }

func (c *confusion) add(is, says bool) {
	if is {
		c.there++
	}
	if says {
		c.called++
	}
	if is && says {
		c.hit++
	}
}

func (c *confusion) values() report.Values {
	return report.Values{
		"f1":        2 * float64(c.hit) / float64(max(1, c.called+c.there)),
		"precision": float64(c.hit) / float64(max(1, c.called)), "recall": float64(c.hit) / float64(max(1, c.there)),
	}
}

func components() []string { return []string{"cooler", "valve", "pump", "accumulator"} }

func conditions() *Set {
	s := &Set{
		Name: "hydraulic", Title: "Hydraulic test rig: condition of four components from its eight 1 Hz channels",
		Protocol: "Each component's condition from the 60 values of each channel in a load cycle; a model for each component. Five folds of runs (stretches of one condition, as they follow each other), each predicted by a model of the other " +
			"four. Where there is a folder test/ with the same files: all cycles of the first learned from, that one predicted.",
		Layout: "hydraulic/{TS1,TS2,TS3,TS4,VS1,CE,CP,SE,profile,cycle}.txt",
		anchors: []sets.Anchor{{Name: "reference", Source: "reference figures, other half of the runs", Values: map[string]float64{
			"cooler": 0.995, "valve": 0.245, "pump": 0.994, "accumulator": 0.841,
		}}},
		run: judgeConditions,
	}
	for _, c := range components() {
		s.metrics = append(s.metrics, sets.Metric{Key: c, Title: c, Digits: 3, Goal: goal(s.anchors[0].Values[c]), About: "accuracy"})
	}
	return s
}

func conditionParameters(component string) map[string]any {
	var others []string
	for _, c := range append(components(), "run") {
		if c != component {
			others = append(others, c)
		}
	}
	return map[string]any{
		"target": component, "task": "classification", "folds": 1,
		"recipe": map[string]any{"series": channels(), "ignore": others},
		"boost":  map[string]any{"trees": 150, "leaves": 7, "min_rows": 10, "feature_share": 0.3},
	}
}

func channels() []string { return []string{"TS1", "TS2", "TS3", "TS4", "VS1", "CE", "CP", "SE"} }

func judgeConditions(ctx context.Context, t *trainer, dir string) (*figures, error) {
	all, err := loadConditions(dir)
	if err != nil {
		return nil, err
	}
	test, err := loadConditions(filepath.Join(dir, "test"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f := &figures{files: 1, ours: report.Values{}, controls: []report.System{{Name: "the commonest", Values: report.Values{}}, {Name: "random", Values: report.Values{}}}}
	run, err := all.at("run")
	if err != nil {
		return nil, err
	}
	fold := func(i int) int {
		n, _ := strconv.Atoi(all.rows[i][run])
		return n % outerFolds
	}
	for _, component := range components() {
		rows, said, err := folded(ctx, t, component, conditionParameters(component), all, test, fold)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", component, err)
		}
		at, err := all.at(component)
		if err != nil {
			return nil, err
		}
		right, count := 0, map[string]int{}
		for i, r := range rows {
			count[r[at]]++
			if said[i] == r[at] {
				right++
			}
		}
		n, most, chance := float64(len(rows)), 0, 0.0
		for _, c := range count {
			most = max(most, c)
			chance += float64(c) / n * float64(c) / n
		}
		f.rows = len(rows)
		f.ours[component] = float64(right) / n
		f.controls[0].Values[component], f.controls[1].Values[component] = float64(most)/n, chance
	}
	return f, nil
}

// loadConditions puts the channels of a cycle beside each other, with the number of its run.
func loadConditions(dir string) (*table, error) {
	profile, err := readFields(filepath.Join(dir, "profile.txt"))
	if err != nil {
		return nil, err
	}
	cycle, err := readFields(filepath.Join(dir, "cycle.txt"))
	if err != nil {
		return nil, err
	}
	out := &table{names: append([]string{"run"}, components()...), rows: make([][]string, len(profile))}
	run, before := 0, -1.0
	for i, p := range profile {
		if len(p) < len(components()) || len(cycle) != len(profile) {
			return nil, fmt.Errorf("profile.txt and cycle.txt do not fit")
		}
		at, err := strconv.ParseFloat(cycle[i][0], 64)
		if err != nil {
			return nil, err
		}
		same := i > 0 && at == before+1
		for k := range components() {
			same = same && profile[i-1][k] == p[k]
		}
		if !same {
			run++
		}
		before = at
		out.rows[i] = append([]string{strconv.Itoa(run)}, p[:len(components())]...)
	}
	for _, c := range channels() {
		values, err := readFields(filepath.Join(dir, c+".txt"))
		if err != nil {
			return nil, err
		}
		if len(values) != len(profile) {
			return nil, fmt.Errorf("%s.txt has %d rows of %d", c, len(values), len(profile))
		}
		for k := range values[0] {
			out.names = append(out.names, c+"."+strconv.Itoa(k))
		}
		for i, v := range values {
			if len(v) != len(values[0]) {
				return nil, fmt.Errorf("%s.txt: row %d has %d values", c, i+1, len(v))
			}
			out.rows[i] = append(out.rows[i], v...)
		}
	}
	return out, nil
}
