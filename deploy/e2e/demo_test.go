//go:build cgo

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a newcomer sees: a machine fails, and the alert is on the page, in the API and in the lake.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	p := run(t, nil, "--data-dir", dir, "--simulate", "8", "--faults", "demo")
	if p.ready > 10*time.Second {
		t.Logf("start took %s", p.ready) // a loaded machine is not a broken product; the README's figure is measured by hand
	}
	page := fetch(t, p.addrs["Live page"])
	if !strings.Contains(page, "<html") || !strings.Contains(page, "Tocsin") {
		t.Errorf("the page is %.200q", page)
	}
	var fault time.Time
	until(t, "the first fault injected", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "truth.jsonl"))
		if err != nil || len(b) == 0 {
			return false
		}
		var truth struct {
			WallTimeUS int64 `json:"wall_time_us"`
		}
		if err := json.Unmarshal([]byte(strings.SplitN(string(b), "\n", 2)[0]), &truth); err != nil {
			return false
		}
		fault = time.UnixMicro(truth.WallTimeUS)
		return true
	})
	router := strings.TrimSuffix(strings.TrimPrefix(p.addrs["Alerts (API v2)"], "http://"), "/api/v2/alerts")
	var alert, onPage, inLake time.Duration
	until(t, "an alert in the API", func() bool {
		return len(alerted(t, router, "behaviour"))+len(alerted(t, router, "silence"))+len(alerted(t, router, "flatline")) > 0
	})
	alert = time.Since(fault)
	until(t, "the alert on the page", func() bool {
		var alerts struct {
			Alerts []any `json:"alerts"`
		}
		return getJSON(t, p.addrs["Live page"]+"/v1/alerts", &alerts) == nil && len(alerts.Alerts) > 0
	})
	onPage = time.Since(fault)
	l := openLake(t, filepath.Join(dir, "lake"))
	until(t, "the alert in a Parquet file", func() bool { return !l.empty("alerts") })
	inLake = time.Since(fault)
	var summary string
	if err := l.db.QueryRow("select summary from " + l.table("alerts") + " limit 1").Scan(&summary); err != nil || summary == "" {
		t.Errorf("the alert in the lake says %q: %v", summary, err)
	}
	if inLake > 90*time.Second {
		t.Errorf("90 s are promised from the fault to the file; it took %s", inLake)
	}
	stop := p.interrupt(t)
	if stop > 10*time.Second {
		t.Errorf("Ctrl-C took %s", stop)
	}
	if _, err := http.Get(p.addrs["Live page"]); err == nil {
		t.Error("something still answers after the end")
	}
	round := func(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
	report(t, "demo", map[string]any{"ready after": round(p.ready), "fault to alert": round(alert), "fault to page": round(onPage), "fault to Parquet": round(inLake), "Ctrl-C to end": round(stop)})
}

func fetch(t *testing.T, u string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
