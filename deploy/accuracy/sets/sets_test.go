package sets_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lines makes a CSV file: the header and one line for each row.
func lines(header string, rows int, line func(i int) string) string {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range rows {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// world lays out a small copy of every set: the anomalies of each file are at known rows.
func world(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	put(t, root, "skab/valve1/1.csv", lines("datetime;P;T;anomaly;changepoint", 1000, func(i int) string {
		return fmt.Sprintf("2020-03-09 10:%02d:%02d;1;2;%d.0;%d.0", i/60, i%60, bit(i >= 600 && i < 800), bit(i == 600 || i == 800))
	}))
	put(t, root, "nab/combined_windows.json", `{"c/a.csv": [["2014-04-01 08:20:00.000000", "2014-04-01 09:59:00.000000"]], "c/none.csv": [], "c/elsewhere.csv": []}`)
	for _, f := range []string{"a", "none"} {
		put(t, root, "nab/data/c/"+f+".csv", lines("timestamp,value", 1000, func(i int) string { return fmt.Sprintf("2014-04-01 %02d:%02d:00,%d", i/60, i%60, i) }))
	}
	row := func(i int) string { return fmt.Sprintf("%d,1,2", i) }
	put(t, root, "tep/d00.csv", lines("row,x,y", 5, row))
	for _, f := range []string{"d01", "d03", "d00"} {
		put(t, root, "tep/"+f+"_te.csv", lines("row,x,y", 100, row))
	}
	put(t, root, "tep/intervals.csv", "file,rows,scored_from,first,last\nd01_te.csv,100,0,20,99\nd03_te.csv,100,0,20,99\nd00_te.csv,100,0,,\n")
	put(t, root, "tep/faults.json", `{"d01": {"accepted_root_cause_variables": ["y"]}, "d03": {"accepted_root_cause_variables": []}}`)
	hour := func(i int) string { return fmt.Sprintf("%02d/07/16 %02d,1,2,0", 1+i/24, i%24) }
	put(t, root, "batadal/dataset03.csv", lines("DATETIME, L_T1, S_PU1, ATT_FLAG", 50, hour))
	put(t, root, "batadal/dataset04.csv", lines("DATETIME, L_T1, S_PU1, ATT_FLAG", 100, hour))
	put(t, root, "batadal/intervals.csv", "file,rows,scored_from,first,last\ndataset04.csv,100,0,20,39\ndataset04.csv,100,0,60,79\n")
	put(t, root, "batadal/attacks.json", `[{"attack": 1, "accepted_root_cause_tags": ["L_T1"]}, {"attack": 2, "accepted_root_cause_tags": ["S_PU1"]}]`)
	put(t, root, "smap_msl/train/A-1.csv", lines("t,value,c1", 5, row))
	put(t, root, "smap_msl/test/A-1.csv", lines("t,value,c1", 100, row))
	put(t, root, "smap_msl/intervals.csv", "file,rows,scored_from,first,last\ntest/A-1.csv,100,0,20,39\ntest/A-1.csv,100,0,60,79\n")
	for _, s := range []string{"gaussian", "clustered", "highdim"} {
		for _, part := range []string{"train", "test"} {
			put(t, root, "synthetic/seed_1/"+s+"_"+part+".csv", lines("f1,f2,label", 100, func(i int) string { return fmt.Sprintf("1,2,%d", bit(i%10 == 0)) }))
		}
	}
	put(t, root, "synthetic/seed_1/temporal.csv", lines("t,s1,s2,label,kind,sensors", 100, func(i int) string {
		if i >= 50 && i < 60 {
			return fmt.Sprintf("%d,1,2,1,shift,s2 s1", i)
		}
		return fmt.Sprintf("%d,1,2,0,,", i)
	}))
	put(t, root, "synthetic/seed_1/intervals.csv", "file,rows,scored_from,first,last\ntemporal.csv,100,30,50,59\n")
	return root
}

// oracle knows the labels and blames the first accepted sensor.
func oracle(trials []*trial.Trial) []*trial.Judged {
	out := make([]*trial.Judged, 0, len(trials))
	for _, tr := range trials {
		v := &trial.Verdicts{Flags: tr.Anomalous, Scores: make([]float64, tr.Rows()), Shares: slices.Repeat([]string{"{}"}, tr.Rows())}
		for i, a := range tr.Anomalous {
			v.Scores[i] = float64(bit(a))
		}
		for i, e := range tr.Events {
			for row := e.First; row <= e.Last && i < len(tr.Accepted) && len(tr.Accepted[i]) > 0; row++ {
				v.Shares[row] = fmt.Sprintf(`{%q: 0.9, "another": 0.1}`, tr.Accepted[i][0])
			}
		}
		out = append(out, &trial.Judged{Trial: tr, Verdicts: v})
	}
	return out
}

func TestSetsLoadAndAnOracleMeetsEveryGoal(t *testing.T) {
	root := world(t)
	files := map[string]int{"skab": 1, "nab": 2, "tep": 3, "batadal": 1, "smap_msl": 1, "synthetic": 4}
	for _, s := range sets.All() {
		t.Run(s.Name, func(t *testing.T) {
			trials, err := s.Load(filepath.Join(root, s.Name))
			if err != nil {
				t.Fatal(err)
			}
			if len(trials) != files[s.Name] {
				t.Errorf("%d files, want %d", len(trials), files[s.Name])
			}
			for _, tr := range trials {
				if err := tr.Check(); err != nil {
					t.Error(err)
				}
				if len(tr.Sensors) == 0 || slices.ContainsFunc(tr.Sensors, func(h string) bool { return slices.Contains(tr.Ignore, h) || strings.EqualFold(h, "datetime") }) {
					t.Errorf("%s: sensors %v, ignored %v", tr.Name, tr.Sensors, tr.Ignore)
				}
			}
			fig, err := s.Score(oracle(trials))
			if err != nil {
				t.Fatal(err)
			}
			consistent(t, s, fig)
			for _, m := range s.Metrics {
				if v := fig.Values[m.Key]; m.Goal != nil && (m.Lower && v > *m.Goal || !m.Lower && v < *m.Goal) {
					t.Errorf("%s: %v misses %v", m.Title, v, *m.Goal)
				}
			}
			for _, control := range [][]*trial.Judged{trial.FlagEverything(trials), trial.Random(oracle(trials))} {
				fig, err := s.Score(control)
				if err != nil {
					t.Fatal(err)
				}
				consistent(t, s, fig)
			}
		})
	}
}

// consistent checks that figures and anchors are those that the set has columns for, and numbers.
func consistent(t *testing.T, s *sets.Set, fig sets.Figures) {
	t.Helper()
	known := map[string]bool{}
	for _, m := range s.Metrics {
		known[m.Key] = true
		if v, ok := fig.Values[m.Key]; !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("%s is %v, %v", m.Key, v, ok)
		}
	}
	check := func(what string, values map[string]float64) {
		for k := range maps.Keys(values) {
			if !known[k] {
				t.Errorf("%s: no column for %q", what, k)
			}
		}
	}
	check("figures", fig.Values)
	for _, c := range fig.Cases {
		check(c.Name, c.Values)
	}
	for _, a := range s.Anchors {
		check(a.Name, a.Values)
		if a.Source == "" {
			t.Errorf("%s has no source", a.Name)
		}
	}
}

func trials(t *testing.T, root, name string) []*trial.Trial {
	t.Helper()
	for _, s := range sets.All() {
		if s.Name == name {
			out, err := s.Load(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatalf("no set %q", name)
	return nil
}

func TestTrainingIsTheProtocols(t *testing.T) {
	root := world(t)
	type training struct {
		train     string
		rows      int
		from      int
		events    []score.Interval
		ignore    string
		perSensor string
	}
	for name, want := range map[string]training{
		"skab":     {"", 400, 400, []score.Interval{{First: 600, Last: 799}}, "anomaly changepoint", "P T"},
		"nab":      {"", 0, 150, []score.Interval{{First: 500, Last: 599}}, "", "value"},
		"tep":      {"d00.csv", 0, 0, []score.Interval{{First: 20, Last: 99}}, "row", "x y"},
		"batadal":  {"dataset03.csv", 0, 0, []score.Interval{{First: 20, Last: 39}, {First: 60, Last: 79}}, "ATT_FLAG", "L_T1 S_PU1"},
		"smap_msl": {"A-1.csv", 0, 0, []score.Interval{{First: 20, Last: 39}, {First: 60, Last: 79}}, "t", "value c1"},
	} {
		tr := trials(t, root, name)[0]
		train := ""
		if tr.Train != "" {
			train = filepath.Base(tr.Train)
		}
		if train != want.train || tr.TrainRows != want.rows || tr.From != want.from || !slices.Equal(tr.Events, want.events) ||
			strings.Join(tr.Ignore, " ") != want.ignore || strings.Join(tr.Sensors, " ") != want.perSensor {
			t.Errorf("%s: %+v", name, tr)
		}
	}
	temporal := trials(t, root, "synthetic")[3]
	if temporal.TrainRows != 30 || !slices.Equal(temporal.Accepted[0], []string{"s2", "s1"}) || strings.Join(temporal.Sensors, " ") != "s1 s2" {
		t.Errorf("temporal: %+v", temporal)
	}
}

func TestDetectionIsComparedAtEqualFalseAlarms(t *testing.T) {
	judged := oracle(trials(t, world(t), "tep"))
	// 140 normal rows: one of them may fire at 1 %. The second highest normal score is .3, so .4 finds and .3 does not.
	judged[0].Scores[0], judged[1].Scores[0], judged[2].Scores[0] = 0.9, 0.3, 0.2
	for i := range judged[0].Scores[20:] {
		judged[0].Scores[20+i] = 0.3
		if i >= 10 {
			judged[0].Scores[20+i] = 0.4
		}
	}
	for _, s := range sets.All() {
		if s.Name != "tep" {
			continue
		}
		fig, err := s.Score(judged)
		if err != nil {
			t.Fatal(err)
		}
		// Fault 3 does not count: the mean is that of fault 1 alone.
		if fig.Values["rate"] != 70.0/80 || fig.Values["delay"] != 10 || fig.Values["top1"] != 1 {
			t.Errorf("%v at threshold %v", fig.Values, fig.Threshold)
		}
	}
}

func TestWrongFilesAreNamed(t *testing.T) {
	for name, broken := range map[string]struct{ set, file, text, want string }{
		"label":        {"skab", "skab/valve1/1.csv", "datetime;P;anomaly;changepoint\n2020-03-09 10:00:00;1;x;0\n", `anomaly "x" is no number`},
		"column":       {"skab", "skab/valve1/1.csv", "datetime;P\n2020-03-09 10:00:00;1\n", `no column "anomaly"`},
		"time":         {"skab", "skab/valve1/1.csv", "datetime;anomaly;changepoint\nnoon;1;0\n", "noon"},
		"empty":        {"skab", "skab/valve1/1.csv", "", "empty"},
		"windows":      {"nab", "nab/combined_windows.json", "[", "combined_windows.json"},
		"window":       {"nab", "nab/combined_windows.json", `{"c/a.csv": [["2015-01-01 00:00:00", "2015-01-01 01:00:00"]]}`, "does not fit"},
		"truth header": {"tep", "tep/intervals.csv", "file,rows\n", "header is file,rows"},
		"truth rows":   {"tep", "tep/intervals.csv", "file,rows,scored_from,first,last\nd01_te.csv,100,0,90,100\n", "do not fit together"},
		"truth number": {"tep", "tep/intervals.csv", "file,rows,scored_from,first,last\nd01_te.csv,100,0,-1,3\n", `"-1" is no row`},
		"faults":       {"tep", "tep/faults.json", "{", "faults.json"},
		"attacks":      {"batadal", "batadal/attacks.json", "[]", "intervals.csv has more"},
		"early":        {"synthetic", "synthetic/seed_1/intervals.csv", "file,rows,scored_from,first,last\ntemporal.csv,100,55,50,59\n", "begins at row 50"},
		"length":       {"synthetic", "synthetic/seed_1/intervals.csv", "file,rows,scored_from,first,last\ntemporal.csv,90,30,50,59\n", "intervals.csv says 90"},
	} {
		t.Run(name, func(t *testing.T) {
			root := world(t)
			put(t, root, broken.file, broken.text)
			for _, s := range sets.All() {
				if s.Name != broken.set {
					continue
				}
				if _, err := s.Load(filepath.Join(root, s.Name)); err == nil || !strings.Contains(err.Error(), broken.want) {
					t.Errorf("%v, want %q", err, broken.want)
				}
			}
		})
	}
}
