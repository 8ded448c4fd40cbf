package historicalapi

import (
	"testing"
	"time"
)

// TestCheckOnDemand: the hours in which a machine that always ran stood still are found; of machines of others nothing is said.
func TestCheckOnDemand(t *testing.T) { onStores(t, testCheckOnDemand) }

func testCheckOnDemand(t *testing.T, f *fixture) {
	var rows []reading
	const days = 36
	for h := range days * 24 {
		at := begin.Add(time.Duration(h) * time.Hour)
		v := float32(100 + h%24*10 + h*7919%11)
		if h >= (days-1)*24+9 && h < (days-1)*24+13 {
			v = 0
		}
		for _, machine := range []string{"line-a-1", "vault-1"} {
			rows = append(rows, reading{EquipmentID: machine, TS: at.UnixMicro(), Sensor: "orders", Value: &v, Validity: "good", LogAppendTime: at.UnixMicro()})
		}
	}
	store(f, "readings", begin.AddDate(0, 0, days), rows)
	r := start(t, f, nil)
	end := begin.AddDate(0, 0, days).Format(time.RFC3339)
	a := r.get(lineToken, "/v1/anomalies/check", "entity", "line-a-1", "metric", "orders", "source", "sensor_sum", "at", end)
	if a.status != 200 || len(a.Findings) == 0 || a.Findings[0].Kind != "volume" && a.Findings[0].Kind != "shape" {
		t.Fatal(a.status, a.text)
	}
	found := false
	for _, x := range a.Findings {
		found = found || x.Kind == "volume" && x.Severity == "critical" && x.Z < -6 && x.From.Equal(begin.AddDate(0, 0, days-1).Add(9*time.Hour)) && x.To.Sub(x.From) == 4*time.Hour
	}
	if !found {
		t.Error(a.text)
	}
	before := r.get(lineToken, "/v1/anomalies/check", "entity", "line-a-1", "metric", "orders", "source", "sensor_sum", "at", begin.AddDate(0, 0, days-1).Format(time.RFC3339))
	for _, x := range before.Findings {
		if x.Severity != "info" {
			t.Error(before.text)
		}
	}
	for field, pairs := range map[string][]string{
		"entity":    {"entity", "vault-1", "metric", "orders"},
		"metric":    {"entity", "line-a-1"},
		"hours":     {"entity", "line-a-1", "metric", "orders", "hours", "1000"},
		"source":    {"entity", "line-a-1", "metric", "orders", "source", "median"},
		"job":       {"entity", "line-a-1", "metric", "orders", "job", "none"},
		"time_zone": {"entity", "line-a-1", "metric", "orders", "time_zone", "Nowhere/Land"},
		"at":        {"entity", "line-a-1", "metric", "orders", "at", "noon"},
	} {
		if a := r.get(lineToken, "/v1/anomalies/check", pairs...); a.status != 400 || a.Field != field {
			t.Errorf("%s: %d %s", field, a.status, a.text)
		}
	}
}
