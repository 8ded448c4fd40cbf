package accuracy_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/deploy/accuracy"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// The test's own binary stands in for tocsin when this variable is set.
const pretend = "TOCSIN_ACCURACY_PRETEND"

func TestMain(m *testing.M) {
	if mode := os.Getenv(pretend); mode != "" {
		os.Exit(backtest(mode, os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// backtest flags rows whose sensor c1 is 1.
func backtest(mode string, args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	if mode == "fail" && strings.HasSuffix(flags["--input"], "B-2.csv") {
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
		fmt.Fprintf(&b, "t,%s,%s,none,,{}\n", r[2], r[2])
	}
	if os.WriteFile(flags["--output"], []byte(b.String()), 0o600) != nil {
		return 1
	}
	return 0
}

// data is a root with one set of three channels. Each has anomalies at rows 20..39 and 60..79; flags find the first, and there is a false alarm in the last channel.
func data(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, "smap_msl", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	truth := "file,rows,scored_from,first,last\n"
	for _, c := range []string{"A-1", "B-2", "C-3"} {
		var b strings.Builder
		b.WriteString("t,value,c1\n")
		for i := range 100 {
			v := 0
			if i == 25 || c == "C-3" && i == 90 {
				v = 1
			}
			fmt.Fprintf(&b, "%d,7,%d\n", i, v)
		}
		put("test/"+c+".csv", b.String())
		put("train/"+c+".csv", b.String())
		truth += fmt.Sprintf("test/%s.csv,100,0,20,39\ntest/%s.csv,100,0,60,79\n", c, c)
	}
	put("intervals.csv", truth)
	return root
}

func TestRun(t *testing.T) {
	t.Setenv(pretend, "work")
	var told []string
	r, err := accuracy.Run(t.Context(), accuracy.Options{
		Data: data(t), Runner: trial.Runner{Binary: os.Args[0], Config: "mine.yaml"},
		Progress: func(done, total int, name string, _ time.Duration) {
			told = append(told, fmt.Sprintf("%d/%d", done, total))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []string{"1/3", "2/3", "3/3"}) {
		t.Errorf("progress: %v", told)
	}
	if len(r.Sets) != 1 || len(r.Missing) != 8 || r.Partial || r.Config != "mine.yaml" {
		t.Fatalf("%+v", r)
	}
	s := r.Sets[0]
	if s.Files != 3 || s.Rows != 300 || len(s.Plots) != 3 || len(s.Cases) != 3 || len(s.Controls) != 2 {
		t.Errorf("%+v", s)
	}
	if s.Ours["recall"] != 0.5 || s.Ours["precision"] != 0.75 || s.Ours["delay"] != 5 {
		t.Errorf("%v", s.Ours)
	}
	if s.Controls[0].Values["recall"] != 1 || s.Controls[0].Values["far"] != 100 {
		t.Errorf("flag everything: %v", s.Controls[0].Values)
	}
}

func TestRunOfSomeFilesSaysSo(t *testing.T) {
	t.Setenv(pretend, "work")
	r, err := accuracy.Run(t.Context(), accuracy.Options{Data: data(t), Only: []string{"smap_msl"}, Files: 2, Parallel: 1, Runner: trial.Runner{Binary: os.Args[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Partial || r.Sets[0].Files != 2 || len(r.Missing) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Setenv(pretend, "work")
	root := data(t)
	run := func(opt accuracy.Options) error {
		opt.Runner.Binary = os.Args[0]
		_, err := accuracy.Run(t.Context(), opt)
		return err
	}
	if err := run(accuracy.Options{Data: t.TempDir()}); !errors.Is(err, accuracy.ErrNoData) {
		t.Error(err)
	}
	if err := run(accuracy.Options{Data: root, Only: []string{"pumps"}}); err == nil || !strings.Contains(err.Error(), `no set "pumps"; there are skab nab`) {
		t.Error(err)
	}
	if err := run(accuracy.Options{Data: root, Only: []string{"nab"}}); err == nil || !strings.Contains(err.Error(), "it needs nab/combined_windows.json") {
		t.Error(err)
	}
	t.Setenv(pretend, "fail")
	if err := run(accuracy.Options{Data: root}); err == nil || !strings.Contains(err.Error(), "smap_msl: B-2.csv") || !strings.Contains(err.Error(), "the detector broke") {
		t.Error(err)
	}
}

func TestLayoutsNameEverySet(t *testing.T) {
	got := accuracy.Layouts()
	for _, s := range []string{"skab/", "nab/", "tep/", "batadal/", "smap_msl/", "synthetic/", "cmapss/", "ai4i2020/", "hydraulic/"} {
		if !strings.Contains(got, "  "+s) {
			t.Errorf("no %s in\n%s", s, got)
		}
	}
}
