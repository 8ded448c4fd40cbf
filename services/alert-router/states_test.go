package alertrouter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
)

// listed is an alert as /v1/alerts gives it.
type listed struct {
	AlertID      string `json:"alert_id"`
	EquipmentID  string `json:"equipment_id"`
	State        string `json:"state"`
	Severity     string `json:"severity"`
	Acknowledged *struct {
		By        string `json:"by"`
		Inherited bool   `json:"inherited"`
	} `json:"acknowledged"`
	Verdict *struct {
		Verdict string `json:"verdict"`
	} `json:"verdict"`
	Contributions []struct {
		Sensor string `json:"sensor"`
	} `json:"contributions"`
}

// ask does one request of the API under /v1/ and decodes the answer when it is one.
func (r *router) ask(t testing.TB, token, method, path string, in, out any) (int, string) {
	t.Helper()
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 == 2 && out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}
	if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: %d is no problem details: %s", method, path, resp.StatusCode, b)
	}
	return resp.StatusCode, string(b)
}

func alertPath(id string, more ...string) string {
	return strings.Join(append([]string{"/v1/alerts", url.PathEscape(id)}, more...), "/")
}

// awaitState waits until an alert is in a state.
func (r *router) awaitState(t testing.TB, id, state string) listed {
	t.Helper()
	var a listed
	eventually(t, id+" "+state, func() error {
		a = listed{}
		if code, said := r.ask(t, "", http.MethodGet, alertPath(id), nil, &a); code != http.StatusOK {
			return fmt.Errorf("%d: %s", code, said)
		}
		if a.State != state {
			return fmt.Errorf("it is %s", a.State)
		}
		return nil
	})
	return a
}

// transitions are "transition state by" of an alert, the oldest first.
func (r *router) transitions(t testing.TB, id string) []string {
	t.Helper()
	var out struct {
		Transitions []struct {
			Transition, State, By string
		} `json:"transitions"`
	}
	if code, said := r.ask(t, "", http.MethodGet, alertPath(id, "transitions"), nil, &out); code != http.StatusOK {
		t.Fatalf("transitions: %d %s", code, said)
	}
	var list []string
	for _, x := range slices.Backward(out.Transitions) {
		list = append(list, x.Transition+" "+x.State+" "+x.By)
	}
	return list
}

func (r *router) do(t testing.TB, id, action string, in map[string]string) listed {
	t.Helper()
	var a listed
	if code, said := r.ask(t, "", http.MethodPost, alertPath(id, action), in, &a); code != http.StatusOK {
		t.Fatalf("%s %s: %d %s", action, id, code, said)
	}
	return a
}

func sameStrings(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Acknowledge, clear, fire again: nobody is told twice of what somebody has seen; a graver one is told.
func TestAcknowledgedDoesNotRearm(t *testing.T) {
	k, h := broker(t, 2), newHook(t)
	p := newProducer(t, k)
	r := run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) { c.RoutingFile = routingTo(t, h.URL) })
	p.anomalies(anomaly("m-1", "limit", 10, started, warning))
	r.awaitState(t, "m-1/limit/10", "unacknowledged")
	eventually(t, "told", func() error { return toldIs(h, "firing m-1/limit/10 warning") })
	if a := r.do(t, "m-1/limit/10", "acknowledge", map[string]string{"by": "ada", "comment": "on my way"}); a.State != "acknowledged" || a.Acknowledged.By != "ada" {
		t.Errorf("%+v", a)
	}
	eventually(t, "amtool sees it", func() error {
		out := r.amtool(t, "alert", "query", "-o", "json", "equipment_id=m-1")
		if !strings.Contains(out, `"state":"acknowledged"`) || !strings.Contains(out, `"acknowledged_by":"ada"`) {
			return errors.New(out)
		}
		return nil
	})
	if code, said := r.ask(t, "", http.MethodPost, alertPath("m-1/limit/10", "acknowledge"), map[string]string{"by": "bo"}, nil); code != http.StatusConflict {
		t.Errorf("a second acknowledgement: %d %s", code, said)
	}
	p.anomalies(anomaly("m-1", "limit", 10, ended, warning))
	r.awaitState(t, "m-1/limit/10", "closed")
	eventually(t, "end told", func() error { return toldIs(h, "firing m-1/limit/10 warning", "resolved m-1/limit/10 warning") })
	p.anomalies(anomaly("m-1", "limit", 20, started, warning))
	if a := r.awaitState(t, "m-1/limit/20", "acknowledged"); !a.Acknowledged.Inherited {
		t.Errorf("%+v", a)
	}
	// What comes after it is told, so it would have been.
	p.anomalies(anomaly("m-2", "limit", 10, started, warning))
	eventually(t, "the other machine", func() error {
		return toldIs(h, "firing m-1/limit/10 warning", "resolved m-1/limit/10 warning", "firing m-2/limit/10 warning")
	})
	p.anomalies(anomaly("m-1", "limit", 20, ongoing, crit))
	r.awaitState(t, "m-1/limit/20", "unacknowledged")
	eventually(t, "the graver one", func() error {
		if got := h.told(); !slices.Contains(got, "firing m-1/limit/20 critical") || slices.Contains(got, "firing m-1/limit/20 warning") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	sameStrings(t, "journal", r.transitions(t, "m-1/limit/20"),
		"opened acknowledged tocsin", "acknowledged acknowledged ada", "escalated unacknowledged tocsin")
}

func toldIs(h *hook, want ...string) error {
	if got := h.told(); !slices.Equal(got, want) {
		return fmt.Errorf("told %q", got)
	}
	return nil
}

// A shelf is a silence that amtool shows and can end, on every router; it holds over a restart, and its end lets people be told.
func TestShelvesAreSilencesEverywhere(t *testing.T) {
	k, h := broker(t, 2), newHook(t)
	p := newProducer(t, k)
	routing := routingTo(t, h.URL)
	dirs := []string{t.TempDir(), t.TempDir()}
	begin := func(i int) *router {
		return run(t, k, configFor(t, dirs[i]), func(c *Config, _ *service.Deps) {
			c.RoutingFile, c.InstanceID, c.SessionTimeout = routing, fmt.Sprintf("r-%d", i), 6*time.Second
		})
	}
	a, b := begin(0), begin(1)
	p.anomalies(anomaly("m-1", "limit", 10, started, warning))
	a.awaitState(t, "m-1/limit/10", "unacknowledged")
	eventually(t, "told", func() error { return toldIs(h, "firing m-1/limit/10 warning") })
	a.do(t, "m-1/limit/10", "shelve", map[string]string{"by": "ada", "duration": "1h", "comment": "sensor is being changed"})
	silence := ""
	eventually(t, "the other router has the silence", func() error {
		out := b.amtool(t, "silence", "query", "-q", "equipment_id=m-1")
		if silence = strings.TrimSpace(out); len(silence) != 36 {
			return errors.New(out)
		}
		return nil
	})
	// Both go and come back.
	for _, r := range []*router{a, b} {
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	a, b = begin(0), begin(1)
	p.anomalies(anomaly("m-1", "limit", 10, ended, warning), anomaly("m-1", "limit", 20, started, warning))
	a.awaitState(t, "m-1/limit/20", "shelved")
	p.anomalies(anomaly("m-2", "limit", 10, started, warning))
	eventually(t, "the other machine", func() error {
		if got := h.told(); !slices.Contains(got, "firing m-2/limit/10 warning") || slices.Contains(got, "firing m-1/limit/20 warning") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	b.amtool(t, "silence", "expire", silence)
	a.awaitState(t, "m-1/limit/20", "unacknowledged")
	eventually(t, "told of what was under the shelf", func() error {
		if got := h.told(); !slices.Contains(got, "firing m-1/limit/20 warning") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if list := a.transitions(t, "m-1/limit/20"); !slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "unshelved") }) {
		t.Errorf("journal: %q", list)
	}
	// Each journal, of two files, has the same.
	sameStrings(t, "the other journal", b.transitions(t, "m-1/limit/10"), a.transitions(t, "m-1/limit/10")...)
}

// The journal is made of the log: once each, over restarts, and anew when it is lost.
func TestJournalIsDerived(t *testing.T) {
	k := broker(t, 2)
	p, dir := newProducer(t, k), t.TempDir()
	r := run(t, k, configFor(t, dir))
	p.anomalies(anomaly("m-1", "limit", 10, started, warning), anomaly("m-1", "limit", 10, ongoing, crit))
	r.awaitState(t, "m-1/limit/10", "unacknowledged")
	r.do(t, "m-1/limit/10", "verdict", map[string]string{"by": "ada", "verdict": "real"})
	r.do(t, "m-1/limit/10", "out-of-service", map[string]string{"by": "ada", "comment": "bearing on order"})
	want := []string{"opened unacknowledged tocsin", "escalated unacknowledged tocsin", "verdict unacknowledged ada", "out_of_service out_of_service ada"}
	sameStrings(t, "journal", r.transitions(t, "m-1/limit/10"), want...)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, k, configFor(t, dir))
	a := r.awaitState(t, "m-1/limit/10", "out_of_service")
	if a.Verdict == nil || a.Verdict.Verdict != "real" || len(a.Contributions) != 2 {
		t.Errorf("after a restart: %+v", a)
	}
	sameStrings(t, "after a restart", r.transitions(t, "m-1/limit/10"), want...)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "journal.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	r = run(t, k, configFor(t, dir))
	r.awaitState(t, "m-1/limit/10", "out_of_service")
	eventually(t, "written again", func() error {
		if got := r.transitions(t, "m-1/limit/10"); !slices.Equal(got, want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// Who sees one line only: another line's alert is not there, whatever is asked of it; who may look may not act; Alertmanager's API is for who sees all.
func TestOthersAlertsAreNotThere(t *testing.T) {
	k := broker(t, 2)
	p := newProducer(t, k)
	const adas, bos, chiefs = "ada-ada-ada-ada-ada", "bo-bo-bo-bo-bo-bo-bo", "chief-chief-chief"
	r := run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) {
		c.Auth.People = []access.Person{
			{Name: "ada", Token: adas, Role: access.Operator, Equipment: []string{"line-a-*"}},
			{Name: "bo", Token: bos, Role: access.Viewer, Equipment: []string{"line-b-1"}},
			{Name: "chief", Token: chiefs, Role: access.Operator, Equipment: []string{"*"}},
		}
	})
	p.anomalies(anomaly("line-a-1", "limit", 10, started, warning), anomaly("line-b-1", "limit", 10, started, warning))
	const a, b = "line-a-1/limit/10", "line-b-1/limit/10"
	for _, id := range []string{a, b} {
		eventually(t, id, func() error {
			if code, said := r.ask(t, chiefs, http.MethodGet, alertPath(id), nil, nil); code != http.StatusOK {
				return errors.New(said)
			}
			return nil
		})
	}
	shelf := map[string]string{"duration": "1h"}
	verdict := map[string]string{"verdict": "real"}
	for _, c := range []struct {
		who, token, method, path string
		in                       map[string]string
		want                     int
	}{
		{"nobody", "", http.MethodGet, "/v1/alerts", nil, 401},
		{"a stranger", "wrong-wrong-wrong-wrong", http.MethodGet, alertPath(a), nil, 401},
		{"nobody", "", http.MethodGet, "/api/v2/alerts", nil, 401},
		{"ada", adas, http.MethodGet, alertPath(a), nil, 200},
		{"ada", adas, http.MethodGet, alertPath(b), nil, 404},
		{"ada", adas, http.MethodGet, alertPath(b, "transitions"), nil, 404},
		{"ada", adas, http.MethodGet, alertPath(b, "notifications"), nil, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "acknowledge"), map[string]string{}, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "shelve"), shelf, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "unshelve"), map[string]string{}, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "out-of-service"), map[string]string{"comment": "x"}, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "in-service"), map[string]string{}, 404},
		{"ada", adas, http.MethodPost, alertPath(b, "verdict"), verdict, 404},
		{"ada", adas, http.MethodPost, alertPath("no/such/1", "verdict"), verdict, 404},
		{"ada", adas, http.MethodGet, "/api/v2/alerts", nil, 403},
		{"ada", adas, http.MethodPost, alertPath(a, "acknowledge"), map[string]string{"by": "bo"}, 400},
		{"ada", adas, http.MethodPost, alertPath(a, "acknowledge"), map[string]string{"who": "bo"}, 400},
		{"ada", adas, http.MethodPost, alertPath(a, "shelve"), map[string]string{"duration": "1000h"}, 400},
		{"ada", adas, http.MethodPost, alertPath(a, "verdict"), map[string]string{"verdict": "maybe"}, 400},
		{"ada", adas, http.MethodPost, alertPath(a, "acknowledge"), map[string]string{}, 200},
		{"bo", bos, http.MethodGet, alertPath(b), nil, 200},
		{"bo", bos, http.MethodPost, alertPath(b, "acknowledge"), map[string]string{}, 403},
		{"bo", bos, http.MethodGet, alertPath(a), nil, 404},
		{"chief", chiefs, http.MethodGet, "/api/v2/alerts", nil, 200},
		{"chief", chiefs, http.MethodPost, alertPath(b, "verdict"), verdict, 200},
		{"chief", chiefs, http.MethodGet, "/v1/alerts?limit=0", nil, 400},
		{"chief", chiefs, http.MethodGet, "/v1/alerts?stat=open", nil, 400},
		{"chief", chiefs, http.MethodGet, "/v1/alerts?after=%21", nil, 400},
		{"chief", chiefs, http.MethodGet, "/v1/nothing", nil, 404},
		{"chief", chiefs, http.MethodGet, "/v1/figures?since=1h", nil, 200},
	} {
		if code, said := r.ask(t, c.token, c.method, c.path, c.in, nil); code != c.want {
			t.Errorf("%s, %s %s: %d, want %d: %s", c.who, c.method, c.path, code, c.want, said)
		}
	}
	for token, want := range map[string][]string{adas: {a}, bos: {b}, chiefs: {b, a}} {
		var out struct{ Alerts []listed }
		r.ask(t, token, http.MethodGet, "/v1/alerts", nil, &out)
		var ids []string
		for _, x := range out.Alerts {
			ids = append(ids, x.AlertID)
		}
		slices.Sort(ids)
		if slices.Sort(want); !slices.Equal(ids, want) {
			t.Errorf("sees %q, want %q", ids, want)
		}
		var rows struct{ Transitions []struct{ By string } }
		if r.ask(t, token, http.MethodGet, "/v1/transitions?transition=acknowledged", nil, &rows); (len(rows.Transitions) > 0) != slices.Contains(want, a) {
			t.Errorf("transitions %+v", rows)
		}
	}
	// A form that a page elsewhere sends in the name of who looks at it.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+alertPath(a, "verdict"), strings.NewReader(`{"verdict":"false"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adas)
	req.Header.Set("Content-Type", "text/plain")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %s", resp.Status)
	}
}

// Sent twice with the same key, an act counts once and is answered twice.
func TestActSentTwice(t *testing.T) {
	k := broker(t, 1)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 10, started, warning))
	r := run(t, k, configFor(t, t.TempDir()))
	r.awaitState(t, "m-1/limit/10", "unacknowledged")
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+alertPath("m-1/limit/10", "verdict"), strings.NewReader(`{"by":"ada","verdict":"known"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("answered %s", resp.Status)
		}
	}
	sameStrings(t, "journal", r.transitions(t, "m-1/limit/10"), "opened unacknowledged tocsin", "verdict unacknowledged ada")
}

// Who was told is in the journal: attempts at the same are one, and their key is the same.
func TestWhoWasToldIsInTheJournal(t *testing.T) {
	k, h := broker(t, 1), newHook(t)
	h.answer(http.StatusServiceUnavailable)
	r := run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) { c.RoutingFile = routingTo(t, h.URL) })
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 10, started, warning))
	type told struct {
		Key, Receiver, Integration, Outcome string
		Attempts                            int
	}
	hooks := func() []told {
		var out struct {
			Notifications []struct {
				Key         string `json:"idempotency_key"`
				Receiver    string
				Integration string
				Outcome     string
				Attempts    int
			}
		}
		r.ask(t, "", http.MethodGet, alertPath("m-1/limit/10", "notifications"), nil, &out)
		var list []told
		for _, n := range out.Notifications {
			if n.Integration == "webhook" {
				list = append(list, told(n))
			}
		}
		return list
	}
	var first told
	eventually(t, "a failed attempt", func() error {
		if list := hooks(); len(list) != 1 || list[0].Outcome != "retry" {
			return fmt.Errorf("%+v", list)
		} else { //nolint:revive // first is what the list has
			first = list[0]
		}
		return nil
	})
	h.answer(0)
	eventually(t, "sent", func() error {
		list := hooks()
		if len(list) != 1 || list[0].Outcome != "sent" || list[0].Key != first.Key || list[0].Attempts < 2 {
			return fmt.Errorf("%+v, first %+v", list, first)
		}
		return nil
	})
}
