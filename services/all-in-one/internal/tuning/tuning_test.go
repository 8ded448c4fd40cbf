package tuning_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/tuning"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reading is a row of the lake's table.
type reading struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	TS          int64    `parquet:"ts,timestamp(microsecond),delta"`
	Sensor      string   `parquet:"sensor,dict"`
	Value       *float32 `parquet:"value,optional"`
	Quality     string   `parquet:"quality,dict"`
	Sample      int32    `parquet:"sample"`
	Received    int64    `parquet:"log_append_time,timestamp(microsecond)"`
	Offset      int64    `parquet:"offset"`
}

var begin = time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)

const (
	hours   = 3
	every   = 5 * time.Second
	faultAt = 2*time.Hour + 15*time.Minute
)

// fill writes three hours of machines into the lake, a file an hour; press-1 is off for ten minutes.
func fill(t *testing.T, dir string, machines ...string) {
	t.Helper()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	r := rand.New(rand.NewPCG(1, 2))
	offset := int64(0)
	for h := range hours {
		var rows []reading
		first := offset
		for _, id := range machines {
			for at := time.Duration(0); at < time.Hour; at += every {
				gone := time.Duration(h)*time.Hour + at
				ts := begin.Add(gone)
				offset++
				for i, sensor := range []string{"flow", "pressure"} {
					v := float32(50 + 10*float64(i) + r.NormFloat64())
					if id == "press-1" && i == 1 && gone >= faultAt && gone < faultAt+10*time.Minute {
						v += 30
					}
					rows = append(rows, reading{id, ts.UnixMicro(), sensor, &v, "good", 0, ts.Add(200 * time.Millisecond).UnixMicro(), offset})
				}
			}
		}
		var buf bytes.Buffer
		w := parquet.NewGenericWriter[reading](&buf)
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		o := lake.Object{Source: lake.Source{Table: "readings", Topic: "telemetry.readings.v1"}, SinceMS: begin.Add(time.Duration(h) * time.Hour).UnixMilli(), First: first, End: offset}
		if err := b.PutIfAbsent(t.Context(), o.Key(), buf.Bytes(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// serve runs a bench until the test ends and gives its address.
func serve(t *testing.T, change func(*tuning.Config)) string {
	t.Helper()
	cfg := tuning.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	dir := t.TempDir()
	cfg.Lake.URL = "file://" + dir
	fill(t, dir, "press-1", "press-2", "pump-1")
	if change != nil {
		change(&cfg)
	}
	s, err := tuning.New(cfg, streamprocessor.DefaultConfig(), service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return "http://" + s.Addr()
}

type problem struct {
	Status        int
	Detail, Field string
}

// ask sends a request and reads the answer into out.
func ask(t *testing.T, method, url, token string, body any, out any) problem {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := problem{}
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("%s %s: %s: %s", method, url, res.Status, text)
		}
	} else if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("%s %s: %v: %s", method, url, err, text)
	}
	p.Status = res.StatusCode
	return p
}

type answer struct {
	ID       string
	State    string
	Progress float64
	Problem  string
	Result   *tuning.Result
}

// end waits until a trial has ended.
func end(t *testing.T, base, id, token string) answer {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		var a answer
		if p := ask(t, http.MethodGet, base+"/v1/tuning/trials/"+id, token, nil, &a); p.Status != http.StatusOK {
			t.Fatalf("%+v", p)
		}
		if a.State != "running" {
			return a
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatal("the trial does not end")
	return answer{}
}

func request(detection string, equipment ...string) map[string]any {
	return map[string]any{
		"from": begin.Add(time.Hour), "to": begin.Add(hours * time.Hour), "warm_up": "1h", "equipment": equipment, "detection": json.RawMessage(detection),
		"alerts": []tuning.Alert{
			{ID: "press-1/behaviour/1", Machine: "press-1", Cause: "behaviour", Verdict: "real", Started: begin.Add(faultAt), Ended: new(begin.Add(faultAt + 10*time.Minute))},
			{ID: "press-1/silence/2", Machine: "press-1", Cause: "silence", Verdict: "false", Started: begin.Add(90 * time.Minute), Ended: new(begin.Add(91 * time.Minute))},
			{ID: "pump-9/behaviour/3", Machine: "pump-9", Cause: "behaviour", Verdict: "real", Started: begin.Add(faultAt)},
		},
	}
}

// The history goes through the judge as it stands and through one without detectors: the fault that people called real is found by the one and missed by the other.
func TestAChangeIsPricedBeforeItIsMade(t *testing.T) {
	base := serve(t, nil)
	var begun answer
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{"detect": {"detectors": ["limits"]}, "calibrate": {"budget": 0.5}}`, "press-*"), &begun); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	a := end(t, base, begun.ID, "")
	if a.State != "done" {
		t.Fatalf("%+v", a)
	}
	r := a.Result
	if h := r.History; h.Machines != 2 || h.MachinesMatched != 2 || h.Samples != 2*hours*720 || math.Abs(h.ObservedSeconds-2*2*3600) > 60 || h.CutAt != nil {
		t.Errorf("history %+v", h)
	}
	if r.Before.Pages == 0 || r.After.Pages != 0 || r.Before.PerMonth <= r.After.PerMonth || r.Before.RealFound != 1 || r.After.RealFound != 0 || r.Before.FalsePaged != 0 {
		t.Errorf("before %+v, after %+v", r.Before, r.After)
	}
	if len(r.Alerts) != 2 || r.Alerts[0].Before == nil || *r.Alerts[0].Before < 0 || *r.Alerts[0].Before > 60 || r.Alerts[0].After != nil || r.Alerts[1].Before != nil {
		t.Errorf("alerts %+v", r.Alerts)
	}
	if len(r.Pages) != r.Before.Pages || r.Pages[0].In != "before" {
		t.Errorf("pages %+v", r.Pages)
	}
	if want := "stream_processor:\n  detection_revision: 1\n  detection:\n    "; !strings.HasPrefix(r.YAML, want) || !strings.Contains(r.YAML, "budget: 0.5") {
		t.Errorf("YAML %q", r.YAML)
	}
	if len(r.Changes) != 2 || len(r.History.Cautions) == 0 {
		t.Errorf("changes %+v, cautions %q", r.Changes, r.History.Cautions)
	}
	// Equal settings give equal pages.
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`, "press-1"), &begun); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	if a = end(t, base, begun.ID, ""); a.State != "done" || a.Result.Before.Pages != a.Result.After.Pages || len(a.Result.Pages) == 0 || a.Result.Pages[0].In != "both" || a.Result.Pages[0].Verdict != "real" {
		t.Errorf("%+v %+v", a, a.Result)
	}
	var list struct{ Trials []answer }
	if ask(t, http.MethodGet, base+"/v1/tuning/trials", "", nil, &list); len(list.Trials) != 2 || list.Trials[0].ID != begun.ID {
		t.Errorf("list %+v", list)
	}
}

func TestOneTrialAtATimeAndItCanBeCancelled(t *testing.T) {
	base := serve(t, nil)
	var first answer
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`), &first); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`), nil); p.Status != http.StatusConflict {
		// The first may have ended on a quick machine; then the second was taken.
		var a answer
		if ask(t, http.MethodGet, base+"/v1/tuning/trials/"+first.ID, "", nil, &a); a.State == "running" {
			t.Errorf("a second one: %+v", p)
		}
	}
	var a answer
	if p := ask(t, http.MethodDelete, base+"/v1/tuning/trials/"+first.ID, "", nil, &a); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	if a = end(t, base, first.ID, ""); a.State != "cancelled" && a.State != "done" {
		t.Errorf("%+v", a)
	}
}

func TestBoundsAreSaid(t *testing.T) {
	base := serve(t, func(c *tuning.Config) { c.MaxMachines, c.MaxSamples = 1, 2*720 })
	var begun answer
	ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`), &begun)
	a := end(t, base, begun.ID, "")
	if a.State != "done" || a.Result.History.Machines != 1 || a.Result.History.MachinesMatched != 3 || a.Result.History.CutAt == nil || !a.Result.History.CutAt.Equal(begin.Add(2*time.Hour)) || len(a.Result.History.Cautions) < 2 {
		t.Errorf("%+v %+v", a, a.Result)
	}
	base = serve(t, func(c *tuning.Config) { c.MaxValues = 1000 })
	ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`), &begun)
	if a = end(t, base, begun.ID, ""); a.State != "failed" || !strings.Contains(a.Problem, "fewer machines") {
		t.Errorf("%+v", a)
	}
	ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{}`, "nobody-*"), &begun)
	if a = end(t, base, begun.ID, ""); a.State != "failed" || !strings.Contains(a.Problem, "no readings") {
		t.Errorf("%+v", a)
	}
}

func TestWrongRequestsAreNamed(t *testing.T) {
	base := serve(t, nil)
	for field, change := range map[string]func(map[string]any){
		"detection":         func(q map[string]any) { q["detection"] = json.RawMessage(`{"calibrate": {"budgte": 1}}`) },
		"from":              func(q map[string]any) { q["from"] = q["to"] },
		"equipment[0]":      func(q map[string]any) { q["equipment"] = []string{"["} },
		"alerts[0].verdict": func(q map[string]any) { q["alerts"] = []map[string]any{{"verdict": "maybe", "started_at": begin}} },
		"warm_up":           func(q map[string]any) { q["warm_up"] = "-1h" },
		"detection.detect.models": func(q map[string]any) {
			q["detection"] = json.RawMessage(`{"detect": {"models": {"champions": [{"name": "a", "version": "0123456789ab"}]}}}`)
		},
		"body": func(q map[string]any) { q["from"] = "yesterday" },
	} {
		q := request(`{}`)
		change(q)
		if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", q, &answer{}); p.Status != http.StatusBadRequest || p.Field != field {
			t.Errorf("%s: %+v", field, p)
		}
	}
	// A name of the environment is nothing but text.
	t.Setenv("TUNING_SECRET", "swordfish")
	q := request(`{"calibrate": {"budget": "${TUNING_SECRET}"}}`)
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", q, &answer{}); p.Status != http.StatusBadRequest || strings.Contains(p.Detail, "swordfish") {
		t.Errorf("%+v", p)
	}
	if p := ask(t, http.MethodGet, base+"/v1/tuning/trials/none", "", nil, &answer{}); p.Status != http.StatusNotFound {
		t.Errorf("%+v", p)
	}
}

func TestMachinesOfOthersDoNotExist(t *testing.T) {
	token := strings.Repeat("k", 20)
	base := serve(t, func(c *tuning.Config) {
		c.Auth.People = []tuning.Person{{Name: "ada", Token: token, Equipment: []string{"pump-*"}}}
	})
	if p := ask(t, http.MethodGet, base+"/v1/tuning/settings", "", nil, nil); p.Status != http.StatusUnauthorized {
		t.Errorf("%+v", p)
	}
	var begun answer
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", token, request(`{}`), &begun); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	if a := end(t, base, begun.ID, token); a.State != "done" || a.Result.History.MachinesMatched != 1 {
		t.Errorf("%+v", a)
	}
	var settings struct {
		Budget    float64
		Detectors []string
		Known     []string `json:"known_detectors"`
	}
	ask(t, http.MethodGet, base+"/v1/tuning/settings", token, nil, &settings)
	if settings.Budget != 1 || len(settings.Detectors) == 0 || len(settings.Known) <= len(settings.Detectors) {
		t.Errorf("%+v", settings)
	}
}

func TestConfigOfAnOpenListenerIsRefused(t *testing.T) {
	cfg := tuning.DefaultConfig()
	cfg.HTTP.Listen = "0.0.0.0:8088"
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "auth.people: ") {
		t.Error(fmt.Errorf("it says %w", err))
	}
}
