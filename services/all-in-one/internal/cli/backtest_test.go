package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/launch"
)

// machineHistory is the file of one machine with one fault, at second 700.
func machineHistory(seed int) string {
	var b strings.Builder
	b.WriteString("time,flow,heat,wrong\n")
	for i := range 900 {
		off, label := 0.0, 0
		if i >= 700 && i < 760 {
			off, label = 25, 1
		}
		n := float64((i*7919+seed*104729)%1009) / 1009
		m := float64((i*104729+seed*7919)%1013) / 1013
		fmt.Fprintf(&b, "%s,%.4f,%.4f,%d\n", time.Date(2026, 3, 1, 6, 0, i, 0, time.UTC).Format(time.RFC3339), 20+n, 60+m+off, label)
	}
	return b.String()
}

func TestBacktestPricesAChange(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		write(t, dir, fmt.Sprintf("pump-%d.csv", i), machineHistory(i))
	}
	deaf := write(t, dir, "deaf.yaml", "stream_processor: {detection: {detect: {detectors: [limits]}}}\n")
	report := filepath.Join(dir, "report.html")
	line := []string{"backtest", "--input", filepath.Join(dir, "pump-*.csv"), "--label-column", "wrong", "--compare", deaf}

	code, out, errs := tocsin(append(line, "--report", report)...)
	if code != launch.ExitOK || errs != "" { // no bar where there is no terminal
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, want := range []string{
		"1800 rows of 2 machines, 30 min observed", "current", "proposed", "faults found", "2 of 2", "0 of 2", "Pages that disappear:", "[fault]", "Faults newly missed:", "2 newly missed",
		"report: " + report,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if html, err := os.ReadFile(report); err != nil || !strings.Contains(string(html), "pump-1") {
		t.Error(err)
	}

	code, out, _ = tocsin(append(line, "--json")...)
	var sum struct {
		Trials []struct {
			Name       string           `json:"name"`
			FalsePages *int             `json:"false_pages"`
			Found      int              `json:"faults_found"`
			List       []map[string]any `json:"list"`
		} `json:"trials"`
		Changes []map[string]string `json:"changes"`
	}
	if err := json.Unmarshal([]byte(out), &sum); err != nil || code != launch.ExitOK {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if len(sum.Trials) != 2 || sum.Trials[0].Found != 2 || sum.Trials[1].Found != 0 || *sum.Trials[0].FalsePages != 0 || len(sum.Trials[0].List) != 2 || len(sum.Changes) != 1 {
		t.Errorf("%+v", sum)
	}

	// Scores and report of one file in one go; the report's configuration is the scores'.
	scores := filepath.Join(dir, "scores.csv")
	code, out, errs = tocsin("backtest", "--input", filepath.Join(dir, "pump-0.csv"), "--ignore-columns", "wrong", "--output", scores, "--report", report)
	if code != launch.ExitOK || errs != "" || !strings.Contains(out, "900 rows of 2 sensors (time from time)") || !strings.Contains(out, "pages per machine per month") || strings.Contains(out, "proposed") {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	if b, err := os.ReadFile(scores); err != nil || strings.Count(string(b), "\n") != 901 {
		t.Error(err)
	}
}
