package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func example() *report.Report {
	goal := func(v float64) *float64 { return &v }
	return &report.Report{
		Made: time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC), Seconds: 12, Binary: "tocsin v1", Config: "shipped default", Data: "/data", Controls: report.ControlsAre,
		Sets: []*report.Set{{
			Name: "pumps", Title: "Pumps <of a plant>", Protocol: "All rows.", Files: 2, Rows: 2000,
			Metrics: []sets.Metric{
				{Key: "f1", Title: "F1", Digits: 3, Goal: goal(0.85), About: "of rows"},
				{Key: "far", Title: "FAR %", Digits: 1, Lower: true, Goal: goal(8), About: "normal rows flagged"},
				{Key: "auc", Title: "AUC", Digits: 2, About: "of the score"},
			},
			Ours:     report.Values{"f1": 0.8, "far": 5, "auc": 0.9},
			Controls: []report.System{{Name: "flag everything", Values: report.Values{"f1": 0.7, "far": 100, "auc": 0.5}}},
			Anchors:  []sets.Anchor{{Name: "a paper", Source: "its title", Values: map[string]float64{"f1": 0.78}}},
			Cases: []report.Case{
				{Name: "one.csv", Note: "1 of 1 events", Values: report.Values{"f1": 0.9, "far": 5}},
				{Name: "two.csv", Note: "0 of 1 events", Values: report.Values{"f1": 0.1, "far": 5}},
			},
			Plots: []report.Plot{{Name: "one.csv", SVG: drawn()}},
		}},
		Missing: []report.Missing{{Name: "valves", Reason: "no such folder", Layout: "valves/*.csv"}},
	}
}

func drawn() string {
	tr := &trial.Trial{Name: "one.csv", From: 10}
	tr.SetEvents(1000, []score.Interval{{First: 500, Last: 599}})
	v := &trial.Verdicts{Scores: make([]float64, 1000), Flags: make([]bool, 1000)}
	v.Scores[550], v.Flags[550], v.Flags[20] = 0.99, true, true
	values := make([]float64, 1000)
	for i := range values {
		values[i] = math.Sin(float64(i) / 50)
	}
	values[3], values[4], values[5] = math.NaN(), math.NaN(), math.NaN()
	return report.Draw(&trial.Judged{Trial: tr, Verdicts: v}, 0.5, []trial.Signal{{Sensor: "a<b", Values: values}, {Sensor: "still", Values: make([]float64, 1000)}, {Sensor: "none"}})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not %s (-rewrite writes it anew):\n%s", path, got)
	}
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	r := example()
	r.PrintCases(&b)
	r.Print(&b)
	golden(t, "tables.txt", b.String())
}

func TestCompare(t *testing.T) {
	before, now := example(), example()
	now.Sets[0].Ours = report.Values{"f1": 0.83, "far": 9, "auc": 0.901}
	now.Sets[0].Cases[1].Values = report.Values{"f1": 0.5}
	now.Sets = append(now.Sets, &report.Set{Name: "new"})
	var b bytes.Buffer
	now.Compare(&b, before)
	now.Sets = now.Sets[:1]
	now.Sets[0].Files = 1
	now.Compare(&b, before)
	golden(t, "compare.txt", b.String())
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accuracy.json")
	r := example()
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := report.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	r.Print(&a)
	again.Print(&b)
	if a.String() != b.String() {
		t.Errorf("read back:\n%s", b.String())
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestThePageNeedsNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accuracy.html")
	if err := example().WritePage(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, want := range []string{"Pumps &lt;of a plant&gt;", "a&lt;b", "-0.050", ">met<", "a paper", "valves", "0 of 1 events"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, never := range []string{"src=", "href=", "url(", "http://", "https://", "<script", "NaN"} {
		if strings.Contains(page, never) {
			t.Errorf("it holds %q", never)
		}
	}
}

func TestDrawIsWellFormed(t *testing.T) {
	d := xml.NewDecoder(strings.NewReader(drawn()))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDrawShortFiles(t *testing.T) {
	for rows := range 3 {
		tr := &trial.Trial{}
		tr.SetEvents(rows, nil)
		j := &trial.Judged{Trial: tr, Verdicts: &trial.Verdicts{Scores: make([]float64, rows), Flags: make([]bool, rows)}}
		if s := report.Draw(j, math.Inf(1), []trial.Signal{{Sensor: "a", Values: make([]float64, rows)}}); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Errorf("%d rows: %s", rows, s)
		}
	}
}
