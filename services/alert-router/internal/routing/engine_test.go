package routing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
)

// sink is a webhook that counts what it is told of each alert: "firing a", "resolved a".
type sink struct {
	*httptest.Server
	mu   sync.Mutex
	told []string
}

func newSink(t testing.TB) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct {
				Status string            `json:"status"`
				Labels map[string]string `json:"labels"`
			} `json:"alerts"`
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range m.Alerts {
			s.told = append(s.told, a.Status+" "+a.Labels["alert_id"])
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

func (s *sink) has(want string) func() error {
	return func() error {
		if got := s.all(); !slices.Contains(got, want) {
			return fmt.Errorf("no %q in %q", want, got)
		}
		return nil
	}
}

func eventually(t testing.TB, ask func() error) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func hooked(t testing.TB, s *sink, groupBy string) string {
	t.Helper()
	return file(t, fmt.Sprintf("route:\n  receiver: h\n  group_by: [%s]\n  group_wait: 0s\n  group_interval: 100ms\n  repeat_interval: 1h\nreceivers:\n  - name: h\n    webhook_configs:\n      - url: %s\n", groupBy, s.URL))
}

func engine(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func open(id string) Alert {
	return Alert{Labels: map[string]string{"alertname": "T", "alert_id": id, "machine": "m", "empty": ""}, StartsAt: time.Now()}
}

func closed(id string) Alert {
	a := open(id)
	a.EndsAt = time.Now()
	return a
}

func put(t testing.TB, e *Engine, alerts ...Alert) {
	t.Helper()
	if err := e.Put(context.Background(), alerts...); err != nil {
		t.Fatal(err)
	}
}

// Owed rests on naming alerts as the notification log does.
func TestOwed(t *testing.T) {
	s := newSink(t)
	e := engine(t, options(t, hooked(t, s, "alert_id")))
	e.Start()
	put(t, e, open("a"), open("b"))
	eventually(t, s.has("firing a"))
	eventually(t, s.has("firing b"))
	put(t, e, closed("b"))
	eventually(t, s.has("resolved b"))
	eventually(t, func() error {
		owed, err := e.Owed([]Alert{closed("a"), closed("b"), closed("never told")})
		if err != nil {
			return err
		}
		if len(owed) != 1 || owed[0].Labels["alert_id"] != "a" {
			return fmt.Errorf("owed %+v", owed)
		}
		return nil
	})
}

// Of several states of one alert put at once the last one stands: the engine's workers could take them in any order.
func TestLastStateStands(t *testing.T) {
	s := newSink(t)
	e := engine(t, options(t, hooked(t, s, "alert_id")))
	e.Start()
	for i := range 50 {
		id := fmt.Sprint("x", i)
		a := open(id)
		a.Judged, a.Measured = time.Now(), time.Now()
		put(t, e, a, closed(id))
	}
	if n := len(e.watch.since); n != 0 {
		t.Errorf("%d alerts still timed", n)
	}
	put(t, e, open("marker"))
	eventually(t, s.has("firing marker"))
	for _, line := range s.all() {
		if line != "firing marker" {
			t.Errorf("told %q", line)
		}
	}
}

// An alert that opens and ends within moments never stays in its group as firing, whichever worker was faster.
func TestEndOvertakesOpening(t *testing.T) {
	e := engine(t, options(t, ""))
	e.Start()
	for i := range 2000 {
		id := fmt.Sprint("x", i)
		put(t, e, open(id))
		put(t, e, closed(id))
	}
	eventually(t, func() error {
		standing := 0
		_, _, err := e.groups(context.Background(), func(*dispatch.Route) bool { return true }, func(a *alert.Alert, now time.Time) bool {
			if !a.ResolvedAt(now) {
				standing++
			}
			return false
		})
		if err == nil && standing > 0 {
			err = fmt.Errorf("%d stand", standing)
		}
		return err
	})
}

// The end of an alert that nobody can have heard of is not put, unless it is owed.
func TestEndOfUnknown(t *testing.T) {
	s := newSink(t)
	e := engine(t, options(t, hooked(t, s, "machine")))
	e.Start()
	put(t, e, open("standing"), closed("unheard"))
	eventually(t, s.has("firing standing"))
	if _, err := e.alerts.Get(fingerprint(open("unheard").Labels)); err == nil {
		t.Error("the unheard end was put")
	}
	if err := e.PutOwed(context.Background(), closed("owed")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.alerts.Get(fingerprint(open("owed").Labels)); err != nil {
		t.Errorf("the owed end was not put: %v", err)
	}
}

// Dropped alerts are gone without a word; the others stay and are not told again.
func TestDrop(t *testing.T) {
	s := newSink(t)
	o := options(t, hooked(t, s, "alert_id"))
	o.LogNotifications = false // its entry could stand before the webhook's, which is what is waited for below
	e := engine(t, o)
	e.Start()
	put(t, e, open("mine"), open("theirs"))
	eventually(t, s.has("firing mine"))
	eventually(t, s.has("firing theirs"))
	// What has been told must be noted before dispatching restarts, or it is told again (at least once).
	eventually(t, func() error {
		if owed, err := e.Owed([]Alert{closed("mine"), closed("theirs")}); err != nil || len(owed) != 2 {
			return fmt.Errorf("noted %d: %w", len(owed), err)
		}
		return nil
	})
	if err := e.Drop(open("theirs")); err != nil {
		t.Fatal(err)
	}
	put(t, e, open("marker"), closed("mine"))
	eventually(t, s.has("firing marker"))
	eventually(t, s.has("resolved mine"))
	got := s.all()
	slices.Sort(got)
	if want := []string{"firing marker", "firing mine", "firing theirs", "resolved mine"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// Alerts put before Start are one picture: a group that still has an open alert is not announced as resolved,
// in whatever order its alerts were put.
func TestStartSeesOnePicture(t *testing.T) {
	s := newSink(t)
	o := options(t, hooked(t, s, "machine"))
	e := engine(t, o)
	e.Start()
	put(t, e, open("a"), open("b"))
	eventually(t, s.has("firing a"))
	eventually(t, s.has("firing b"))
	eventually(t, func() error {
		if owed, err := e.Owed([]Alert{closed("a"), closed("b")}); err != nil || len(owed) != 2 {
			return fmt.Errorf("noted %d: %w", len(owed), err)
		}
		return nil
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	before := len(s.all())
	e = engine(t, o)
	if err := e.PutOwed(context.Background(), closed("a")); err != nil {
		t.Fatal(err)
	}
	put(t, e, open("b"))
	e.Start()
	eventually(t, s.has("resolved a"))
	after := s.all()[before:]
	slices.Sort(after)
	if want := []string{"firing b", "resolved a"}; !slices.Equal(after, want) {
		t.Errorf("told after the restart %q, want one message with %q", after, want)
	}
}

// A broker's clock ahead of ours must not postpone a start or an end.
func TestClockAhead(t *testing.T) {
	now := time.Now()
	a := convert(&Alert{StartsAt: now.Add(time.Hour), EndsAt: now.Add(2 * time.Hour)}, now)
	if !a.ResolvedAt(now) || a.StartsAt.After(now) || a.EndsAt.Before(a.StartsAt) {
		t.Errorf("%+v", a)
	}
	b := convert(&Alert{StartsAt: now.Add(time.Hour)}, now)
	if b.ResolvedAt(now.Add(365*24*time.Hour)) || b.StartsAt.After(now) {
		t.Errorf("%+v", b)
	}
}

func TestInhibition(t *testing.T) {
	s := newSink(t)
	path := file(t, fmt.Sprintf(`route: {receiver: h, group_by: [alert_id], group_wait: 0s, group_interval: 100ms}
receivers: [{name: h, webhook_configs: [{url: %q}]}]
inhibit_rules:
  - source_matchers: [cause="silence"]
    target_matchers: [cause!="silence"]
    equal: [gateway_id]
`, s.URL))
	e := engine(t, options(t, path))
	with := func(id, cause string) Alert {
		a := open(id)
		a.Labels["cause"], a.Labels["gateway_id"] = cause, "g"
		return a
	}
	put(t, e, with("child", "limit"), with("parent", "silence"))
	e.Start()
	eventually(t, s.has("firing parent"))
	if slices.Contains(s.all(), "firing child") {
		t.Error("child was told of")
	}
}

func TestHandlerBeforeStart(t *testing.T) {
	e := engine(t, options(t, ""))
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v2/alerts", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("code %d", w.Code)
	}
	if _, _, err := e.groups(context.Background(), nil, nil); err == nil {
		t.Error("groups before Start")
	}
}

func TestHugeBody(t *testing.T) {
	e := engine(t, options(t, ""))
	e.Start()
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodPost, "/api/v2/alerts", strings.NewReader("["+strings.Repeat(`{"labels":{"a":"b"}},`, 1<<20)))
	req.Header.Set("Content-Type", "application/json")
	e.Handler().ServeHTTP(w, req)
	if w.Code < 400 || w.Code >= 500 {
		t.Errorf("code %d", w.Code)
	}
}

func TestCloseTwice(t *testing.T) {
	e, err := New(options(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	// Late callers meet a closed engine, not a panic.
	_ = e.Put(context.Background(), open("x"))
}
