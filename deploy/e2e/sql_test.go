//go:build cgo

package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What an analyst does: history is imported, a scheduled check finds what is unusual in it and says so in the lake, and `tocsin sql` asks for both.
func TestAskingTheLake(t *testing.T) {
	dir := t.TempDir()
	const days = 40
	first := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -days-1)
	history := filepath.Join(dir, "orders.csv")
	values, outage := usualHours(first, days, days-3)
	if err := os.WriteFile(history, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := tocsin(t, "lake", "import", history, "--equipment", "shop-7", "--data-dir", dir); !strings.Contains(out, fmt.Sprint(days*24, " rows")) {
		t.Fatalf("imported: %s", out)
	}
	config := filepath.Join(dir, "tocsin.yaml")
	// A file for each row: so the test need not wait for the lake's interval.
	if err := os.WriteFile(config, fmt.Appendf(nil, `
cold_path_writer: {chunk: {max_rows: 1}}
historical_api:
  checks:
    jobs: [{name: orders, schedule: "20 0 * * *", source: sensor_sum, metrics: [orders], since: %q, catch_up: 1000}]
`, first.AddDate(0, 0, days-5).Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, nil, "--config", config, "--data-dir", dir)
	api := strings.TrimSuffix(p.addrs["History (SQL)"], "/v1/sql")
	ask := func(args ...string) string { return tocsin(t, append([]string{"sql", "--history", api}, args...)...) }

	var row []string
	until(t, "the finding in the lake", func() bool {
		rows, err := csv.NewReader(strings.NewReader(ask("--format", "csv", `SELECT equipment_id, metrics[1], epoch_us(began_at), producer, alert_ids[1] = finding_id FROM findings
			WHERE severity = 'critical' AND kind = 'check' AND finding_id LIKE '%:volume:%' ORDER BY began_at LIMIT 1`))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 1 {
			row = rows[1]
		}
		return row != nil
	})
	if want := []string{"shop-7", "orders", fmt.Sprint(outage.UnixMicro()), "historical-api/check:orders", "true"}; strings.Join(row, " ") != strings.Join(want, " ") {
		t.Errorf("found %q, want %q", row, want)
	}

	count := "SELECT count(*) AS n, sum(value) > 0 AS some FROM readings WHERE equipment_id = 'shop-7'"
	if got := strings.Fields(ask(count)); strings.Join(got, " ") != fmt.Sprint("n some ", days*24, " true") {
		t.Errorf("table: %q", got)
	}
	var answer struct{ Rows [][]any }
	if err := json.Unmarshal([]byte(ask("--format", "json", "--from", first.AddDate(0, 0, 1).Format(time.DateOnly), "--to", first.AddDate(0, 0, 3).Format(time.DateOnly), count)), &answer); err != nil || fmt.Sprint(answer.Rows) != "[[48 true]]" {
		t.Errorf("two days in JSON: %v %v", answer, err)
	}
	if got := ask("--format", "arrow", count); !strings.HasPrefix(got, "\xff\xff\xff\xff") { // how a stream of Arrow begins
		t.Errorf("Arrow: %.20q", got)
	}
	for query, says := range map[string]string{"SELEC 1": "syntax error", "SELECT * FROM read_csv('/etc/passwd')": "read_csv"} {
		var errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), binary(t, "tocsin"), "sql", "--history", api, query)
		cmd.Stderr = &errs
		if out, err := cmd.Output(); err == nil || len(out) > 0 || !strings.Contains(errs.String(), says) {
			t.Errorf("%s: %v, %q, %q", query, err, out, &errs)
		}
	}
	if stop := p.interrupt(t); stop > 10*time.Second {
		t.Logf("Ctrl-C took %s", stop)
	}
}

// usualHours is a CSV file of hourly orders; on one day four hours, from outage on, have far too many.
func usualHours(first time.Time, days, odd int) (text string, outage time.Time) {
	var b strings.Builder
	b.WriteString("time,orders\n")
	outage = first.AddDate(0, 0, odd).Add(10 * time.Hour)
	for h := range days * 24 {
		at := first.Add(time.Duration(h) * time.Hour)
		v := 100 + 10*(h%24) + (h*7919)%11
		if !at.Before(outage) && at.Before(outage.Add(4*time.Hour)) {
			v *= 4
		}
		fmt.Fprintf(&b, "%s,%d\n", at.Format(time.RFC3339), v)
	}
	return b.String(), outage
}
