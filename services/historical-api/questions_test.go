package historicalapi

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"
)

type window struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	Start       int64    `parquet:"window_start,timestamp(microsecond),delta"`
	Sensor      string   `parquet:"sensor,dict"`
	Revision    int32    `parquet:"revision,delta"`
	End         int64    `parquet:"window_end,timestamp(microsecond),delta"`
	WindowID    string   `parquet:"window_id,dict"`
	Count       int64    `parquet:"count,delta"`
	Mean        *float64 `parquet:"mean,optional"`
}

type contribution struct {
	Sensor string  `parquet:"sensor,dict"`
	Share  float64 `parquet:"share"`
}

type report struct {
	EquipmentID   string         `parquet:"equipment_id,dict"`
	ObservedAt    int64          `parquet:"observed_at,timestamp(microsecond),delta"`
	AnomalyID     string         `parquet:"anomaly_id"`
	EpisodeID     string         `parquet:"episode_id"`
	Cause         string         `parquet:"cause,dict"`
	Phase         string         `parquet:"phase,dict"`
	Severity      string         `parquet:"severity,dict"`
	Score         float64        `parquet:"score"`
	StartedAt     int64          `parquet:"started_at,timestamp(microsecond),delta"`
	Summary       string         `parquet:"summary"`
	Contributions []contribution `parquet:"contributions,list"`
	Offset        int64          `parquet:"offset,delta"`
}

func (r *running) get(token, path string, pairs ...string) answer {
	r.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return r.ask(token, "GET", path+"?"+v.Encode(), nil)
}

func TestQuestions(t *testing.T) { onStores(t, testQuestions) }

func testQuestions(t *testing.T, f *fixture) {
	f.hour(begin)
	var windows []window
	var reports []report
	for i := range 120 { // an hour of 30 s; ten minutes are missing, one window came twice
		if i >= 40 && i < 60 {
			continue
		}
		us := begin.Add(time.Duration(i) * 30 * time.Second).UnixMicro()
		w := window{EquipmentID: "line-a-1", Start: us, End: us + 30e6, WindowID: fmt.Sprint("line-a-1/", us), Sensor: "temperature", Count: 3}
		windows = append(windows, w)
		if i == 7 {
			w.Revision = 1
			windows = append(windows, w)
		}
	}
	for i, phase := range []string{"started", "ongoing", "ended"} {
		for _, machine := range []string{"line-a-1", "vault-1"} {
			reports = append(reports, report{
				EquipmentID: machine, ObservedAt: begin.Add(time.Duration(i) * time.Minute).UnixMicro(), AnomalyID: fmt.Sprint(machine, i), EpisodeID: machine + "/limit/1", Cause: "limit",
				Phase: phase, Severity: []string{"warning", "critical", "warning"}[i], Score: []float64{0.9, 0.99, 0.1}[i], StartedAt: begin.UnixMicro(),
				Summary: fmt.Sprint("report ", i), Contributions: []contribution{{"temperature", 1}}, Offset: int64(i),
			})
		}
	}
	store(f, "windows", begin, windows)
	store(f, "anomalies", begin, reports)
	r := start(t, f, nil)
	from, to := begin.Format(time.RFC3339), begin.Add(time.Hour).Format(time.RFC3339)

	m4 := r.get(lineToken, "/v1/series", "equipment_id", "line-a-1", "sensor", "temperature", "from", from, "to", to, "points", "40")
	least, greatest := math.Inf(1), math.Inf(-1)
	for _, row := range m4.Rows {
		least, greatest = min(least, row[1].(float64)), max(greatest, row[1].(float64))
	}
	if m4.status != 200 || len(m4.Rows) < 20 || len(m4.Rows) > 40 || m4.Rows[0][0] != "2026-11-02T00:00:00Z" || m4.Rows[len(m4.Rows)-1][0] != "2026-11-02T00:59:50Z" || least != 20 || greatest != 29 {
		t.Error(m4.status, m4.text)
	}
	mean := r.get(lineToken, "/v1/series", "equipment_id", "line-a-1", "sensor", "temperature", "from", from, "to", to, "points", "6", "method", "mean")
	if got := fmt.Sprint(mean.Rows); len(mean.Rows) != 6 || !strings.HasPrefix(got, "[[2026-11-02T00:00:00Z 60 20 29 24.5] [2026-11-02T00:10:00Z 60 ") {
		t.Error(mean.text)
	}
	available := r.get(lineToken, "/v1/availability", "equipment_id", "line-a-1,line-a-2", "from", from, "to", to)
	want := "[[line-a-1 100 0.8333333333333334 [map[from:2026-11-02T00:20:00Z seconds:600 to:2026-11-02T00:30:00Z]]]" +
		" [line-a-2 0 0 [map[from:2026-11-02T00:00:00Z seconds:3600 to:2026-11-02T01:00:00Z]]]]"
	if got := fmt.Sprint(available.Rows); got != want {
		t.Errorf("%s\n%s", got, available.text)
	}
	episodes := r.get(lineToken, "/v1/episodes", "from", from, "to", to, "severity", "critical")
	if len(episodes.Rows) != 1 || fmt.Sprint(episodes.Rows[0]) != "[line-a-1/limit/1 line-a-1 limit 2026-11-02T00:00:00Z 2026-11-02T00:02:00Z 2026-11-02T00:02:00Z warning 0.99 report 1 [map[sensor:temperature share:1]] 3]" {
		t.Error(episodes.text)
	}
	if all := r.get(adminToken, "/v1/episodes", "from", from, "to", to); len(all.Rows) != 2 {
		t.Error(all.text)
	}
	compared := r.get(adminToken, "/v1/compare", "equipment_id", "line-a-1,line-a-2,vault-1", "sensor", "temperature", "from", from, "to", to)
	if len(compared.Rows) != 2 || compared.Rows[0][0] != "line-a-1" || compared.Rows[0][2] != 24.5 {
		t.Error(compared.text)
	}
	for path, cases := range map[string][][]string{
		"/v1/series": {
			{"equipment_id", "sensor", "temperature"},
			{"equipment_id", "equipment_id", "vault-1", "sensor", secret},
			{"sensor", "equipment_id", "line-a-1"},
			{"points", "equipment_id", "line-a-1", "sensor", "x", "points", "1"},
			{"method", "equipment_id", "line-a-1", "sensor", "x", "method", "lttb"},
			{"from", "equipment_id", "line-a-1", "sensor", "x", "from", "2999-01-01"},
			{"form", "equipment_id", "line-a-1", "sensor", "x", "form", "csv"},
			{"format", "equipment_id", "line-a-1", "sensor", "x", "format", "xml"},
		},
		"/v1/episodes":     {{"severity", "severity", "dire"}, {"limit", "limit", "0"}, {"equipment_id", "equipment_id", "vault-1"}},
		"/v1/availability": {{"gap", "equipment_id", "line-a-1", "gap", "x"}, {"equipment_id", "equipment_id", "line-a-1,"}},
		"/v1/compare":      {{"quality", "equipment_id", "line-a-1", "sensor", "x", "quality", "bad"}},
	} {
		for _, c := range cases {
			if a := r.get(lineToken, path, c[1:]...); a.status != 400 || a.Field != c[0] {
				t.Errorf("%s %q: %d %s", path, c, a.status, a.text)
			}
		}
	}
}
