package trial_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// The test's own binary stands in for tocsin when this variable is set.
const pretend = "TOCSIN_ACCURACY_PRETEND"

func TestMain(m *testing.M) {
	if mode := os.Getenv(pretend); mode != "" {
		os.Exit(backtest(mode, os.Args[2:]))
	}
	os.Exit(m.Run())
}

// backtest scores each row by its first sensor, and says its arguments.
func backtest(mode string, args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	if mode == "fail" {
		fmt.Fprintln(os.Stderr, "the detector broke")
		return 1
	}
	in, err := os.Open(flags["--input"])
	if err != nil {
		return 1
	}
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return 1
	}
	var b strings.Builder
	b.WriteString("timestamp,score,flag,severity,top_sensor,contributions\n")
	for _, r := range rows[1:] {
		fmt.Fprintf(&b, "t,%s,1,none,a,\"{\"\"%s\"\":1}\"\n", r[0], strings.Join(args[4:], " "))
	}
	if os.WriteFile(flags["--output"], []byte(b.String()), 0o600) != nil {
		return 1
	}
	return 0
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunGivesBacktestWhatTheTrialSays(t *testing.T) {
	t.Setenv(pretend, "work")
	tr := &trial.Trial{Name: "x/a.csv", Input: write(t, "a.csv", "a,label\n0.25,0\n0.75,1\n"), TrainRows: 1, Ignore: []string{"label", "row"}}
	tr.SetEvents(2, []score.Interval{{First: 1, Last: 1}})
	keep := t.TempDir()
	r := trial.Runner{Binary: os.Args[0], Config: "c.yaml", Keep: keep}
	v, err := r.Run(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(v.Scores, []float64{0.25, 0.75}) || !slices.Equal(v.Flags, []bool{true, true}) {
		t.Errorf("%+v", v)
	}
	if want := `{"--config c.yaml --train-rows 1 --ignore-columns label,row":1}`; v.Shares[0] != want {
		t.Errorf("%s, want %s", v.Shares[0], want)
	}
	if _, err := os.Stat(filepath.Join(keep, "x_a.csv")); err != nil {
		t.Error(err)
	}
}

func TestRunSaysWhatFailed(t *testing.T) {
	tr := &trial.Trial{Name: "x/a.csv", Input: write(t, "a.csv", "a\n0.25\n0.75\n")}
	tr.SetEvents(3, nil)
	t.Setenv(pretend, "work")
	r := trial.Runner{Binary: os.Args[0]}
	if _, err := r.Run(t.Context(), tr); err == nil || !strings.Contains(err.Error(), "x/a.csv: 2 verdicts for 3 rows") {
		t.Error(err)
	}
	t.Setenv(pretend, "fail")
	if _, err := r.Run(t.Context(), tr); err == nil || !strings.Contains(err.Error(), "the detector broke") {
		t.Error(err)
	}
}

func TestReadRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                       io.EOF.Error(),
		"timestamp,score\nx,1\n": `no column "flag"`,
		"score,flag,contributions\n0.5,0,{}\n1.5,0,\n": `line 3: score "1.5" is not in [0,1]`,
		"score,flag,contributions\nNaN,0,{}\n":         `score "NaN"`,
		"score,flag,contributions\n0.5,0\n":            "wrong number of fields",
	} {
		if _, err := trial.Read(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("timestamp,score,flag,severity,top_sensor,contributions\nx,0.5,1,high,a,\"{\"\"a\"\":1}\"\n")
	f.Fuzz(func(t *testing.T, in string) {
		v, err := trial.Read(strings.NewReader(in))
		if err != nil {
			return
		}
		if len(v.Scores) != len(v.Flags) || len(v.Scores) != len(v.Shares) {
			t.Fatalf("%d scores, %d flags, %d shares", len(v.Scores), len(v.Flags), len(v.Shares))
		}
	})
}

func TestSuspects(t *testing.T) {
	v := &trial.Verdicts{Shares: []string{`{"a":0.9,"b":0.1}`, `{"b":0.6,"c":0.4}`, `{"b":1}`, `{"z":1}`}}
	flags := []bool{true, true, false, true}
	for limit, want := range map[int]string{0: "a b c", 1: "a b", 2: "a b c"} {
		got, err := trial.Suspects(v, score.Interval{First: 0, Last: 2}, flags, limit)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("first %d: %v, %v, want %s", limit, got, err, want)
		}
	}
	if got, err := trial.Suspects(v, score.Interval{First: 2, Last: 2}, flags, 0); err != nil || len(got) != 0 {
		t.Errorf("a missed event has suspects: %v, %v", got, err)
	}
	v.Shares[3] = "no json"
	if _, err := trial.Suspects(v, score.Interval{First: 3, Last: 3}, flags, 0); err == nil || !strings.Contains(err.Error(), "row 3") {
		t.Error(err)
	}
}

func TestControls(t *testing.T) {
	tr := &trial.Trial{From: 1000}
	tr.SetEvents(11000, []score.Interval{{First: 2000, Last: 2999}})
	all := trial.FlagEverything([]*trial.Trial{tr})[0]
	if slices.Contains(all.Flags, false) || len(all.Flags) != 11000 {
		t.Error("something is not flagged")
	}
	ours := &trial.Verdicts{Scores: make([]float64, 11000), Flags: make([]bool, 11000)}
	for i := range 3000 { // 2000 of the 10000 that count
		ours.Flags[i] = true
	}
	a, b := trial.Random([]*trial.Judged{{Trial: tr, Verdicts: ours}})[0], trial.Random([]*trial.Judged{{Trial: tr, Verdicts: ours}})[0]
	if !slices.Equal(a.Scores, b.Scores) || !slices.Equal(a.Flags, b.Flags) {
		t.Error("two controls differ")
	}
	n := 0
	for _, f := range a.Flags[1000:] {
		if f {
			n++
		}
	}
	if n < 1800 || n > 2200 {
		t.Errorf("%d rows flagged, ours 2000", n)
	}
}

func TestMovedFindsTheSensorThatMoved(t *testing.T) {
	tr := &trial.Trial{
		Name:    "a",
		Input:   write(t, "a.csv", "when;still;moves;broken;label\n1;5;0.1;;0\n2;5;-0.1;x;0\n3;5;9;;1\n4;5;9;1;1\n"),
		Sensors: []string{"still", "moves", "broken"},
	}
	tr.SetEvents(4, []score.Interval{{First: 2, Last: 3}})
	got, err := trial.Moved(tr, 2)
	if err != nil || len(got) != 2 || got[0].Sensor != "moves" || !slices.Equal(got[0].Values, []float64{0.1, -0.1, 9, 9}) {
		t.Errorf("%v, %v", got, err)
	}
	tr.Input = write(t, "b.csv", "still,moves\n1\n")
	if _, err := trial.Moved(tr, 2); err == nil || !strings.HasPrefix(err.Error(), "a: ") {
		t.Error(err)
	}
}
