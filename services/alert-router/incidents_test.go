package alertrouter

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/service"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// silent is the report of a machine that fell silent with its gateway.
func silent(machine string, phase eventv1.Phase, sev eventv1.Severity) *eventv1.Anomaly {
	a := anomaly(machine, "silence", 50, phase, sev)
	a.Origin, a.Machines, a.GatewayId = eventv1.Origin_ORIGIN_GATEWAY, 200, "gw-7"
	a.Summary = `gateway "gw-7" is silent: 200 machines behind it`
	return a
}

// 200 machines behind a gateway that dies, in all partitions, of two routers: one page. They come back: it is resolved with the last of them, and what stood before stands.
func TestDeadGatewayIsOnePage(t *testing.T) {
	const machines = 200
	k, h := broker(t, 4), newHook(t)
	p := newProducer(t, k)
	routing := writeRouting(t, filepath.Join(t.TempDir(), "routing.yml"), fmt.Sprintf(`route:
  receiver: hook
  group_by: [equipment_id, cause]
  group_wait: 8s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - {url: %s, send_resolved: true}
`, h.URL))
	begin := func(i int) *router {
		return run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) {
			c.RoutingFile, c.InstanceID, c.Incidents = routing, fmt.Sprintf("r-%d", i), DefaultConfig().Incidents
			c.SessionTimeout = 20 * time.Second // a router that is taken for dead has its pages sent again: not on a machine that is only busy
		})
	}
	a := begin(0)
	b := begin(1)
	name := func(i int) string { return fmt.Sprintf("m-%03d", i) }
	p.anomalies(anomaly(name(5), "limit", 10, started, warning))
	eventually(t, "what stands before", func() error { return toldIs(h, "firing m-005/limit/10 warning") })

	phase := func(of eventv1.Phase, sev eventv1.Severity, from, to int) {
		var list []*eventv1.Anomaly
		for i := from; i < to; i++ {
			list = append(list, silent(name(i), of, sev))
		}
		p.anomalies(list...)
	}
	for i := 0; i < machines; i += 50 { // not all at once
		phase(started, warning, i, i+50)
	}
	silences := func(state string) int {
		var out struct{ Alerts []listed }
		if code, said := a.ask(t, "", http.MethodGet, "/v1/alerts?limit=1000&cause=silence&state="+state, nil, &out); code != http.StatusOK {
			t.Fatal(said)
		}
		return len(out.Alerts)
	}
	eventually(t, "one stands for all", func() error {
		if n, m := silences("suppressed"), silences("unacknowledged"); n != machines-1 || m != 1 {
			return fmt.Errorf("%d suppressed, %d not", n, m)
		}
		return nil
	})
	pages := func(status string) (list []string) {
		for _, s := range h.told() {
			if strings.HasPrefix(s, status) && strings.Contains(s, "/silence/") {
				list = append(list, s)
			}
		}
		return list
	}
	eventually(t, "a page", func() error {
		if got := pages("firing"); len(got) == 0 {
			return fmt.Errorf("told %q", h.told())
		}
		return nil
	})
	// All become critical; that is one page more.
	phase(ongoing, crit, 0, machines)
	eventually(t, "the graver page", func() error {
		if got := pages("firing"); !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, "critical") }) {
			return fmt.Errorf("told %q", got)
		}
		return nil
	})
	// All but one come back.
	lead := strings.Fields(pages("firing")[0])[1]
	lastBack := name(machines - 1)
	if strings.HasPrefix(lead, lastBack) {
		lastBack = name(0)
	}
	var back []*eventv1.Anomaly
	for i := range machines {
		if name(i) != lastBack {
			back = append(back, silent(name(i), ended, crit))
		}
	}
	p.anomalies(back...)
	eventually(t, "all but one are back", func() error {
		if n := silences("returned"); n != machines-1 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	// What comes later is told, so the end of the incident would have been.
	p.anomalies(anomaly("m-900", "limit", 10, started, warning))
	eventually(t, "another machine", func() error {
		if got := h.told(); !slices.Contains(got, "firing m-900/limit/10 warning") {
			return fmt.Errorf("told %q", got)
		}
		return nil
	})
	for _, s := range h.told() {
		if strings.HasPrefix(s, "resolved") && strings.HasSuffix(s, "critical") || strings.HasPrefix(s, "resolved m-005/limit") {
			t.Errorf("told %q while a machine is silent", s)
		}
	}
	p.anomalies(silent(lastBack, ended, crit))
	eventually(t, "the end of the incident", func() error {
		if got := pages("resolved"); !slices.Contains(got, "resolved "+lead+" critical") {
			return fmt.Errorf("told %q", h.told())
		}
		return nil
	})
	if got := pages("firing"); len(got) != 2 {
		t.Errorf("%d pages, want one, and one when it became critical: %q", len(got), got)
	}
	if a.awaitState(t, name(5)+"/limit/10", "unacknowledged").State != "unacknowledged" || slices.Contains(h.told(), "resolved m-005/limit/10 warning") {
		t.Error("what stood before the gateway died was resolved")
	}
	sameStrings(t, "the other router's journal", b.transitions(t, lead), a.transitions(t, lead)...)
}

// A flood: the page that takes the last place says so, what comes after waits and is in the list; nothing is lost.
// The air of a line fails: its machines show the same. One page, which says how many and of what line; a machine that is graver is told by itself.
func TestALineIsOnePage(t *testing.T) {
	k := broker(t, 1)
	people := newPosted(t, "s")
	cfg := configFor(t, t.TempDir())
	cfg.Incidents.Grace = time.Minute
	cfg.Incidents.Groups = []Group{{Name: "line-a", Equipment: []string{"a-*"}, Incident: time.Minute}}
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"),
		"route: {receiver: people, group_by: [alert_id], group_wait: 3s, group_interval: 300ms}\nreceivers: [{name: people}]\n")
	cfg.ReceiversFile = receiversFile(t, fmt.Sprintf("receivers: [{name: people, tocsin_webhook_configs: [{url: %q, secrets: [s]}]}]", people.URL))
	r := run(t, k, cfg)
	p := newProducer(t, k)
	const machines = 20
	var all []*eventv1.Anomaly
	for i := range machines {
		all = append(all, anomaly(fmt.Sprintf("a-%d", i), "behaviour", 1, started, warning))
	}
	p.anomalies(append(all, anomaly("b-1", "behaviour", 1, started, warning))...)
	eventually(t, "the pages", func() error {
		people.mu.Lock()
		defer people.mu.Unlock()
		if len(people.list) < 2 {
			return fmt.Errorf("%d pages", len(people.list))
		}
		return nil
	})
	eventually(t, "all at the desk", func() error {
		var out struct{ Alerts []listed }
		r.ask(t, "", http.MethodGet, "/v1/alerts?state=suppressed&limit=100", nil, &out)
		if len(out.Alerts) != machines-1 {
			return fmt.Errorf("%d suppressed", len(out.Alerts))
		}
		return nil
	})
	people.mu.Lock()
	defer people.mu.Unlock()
	if len(people.list) != 2 {
		t.Errorf("%d pages", len(people.list))
	}
	for _, d := range people.list {
		line := strings.HasPrefix(d.Alerts[0].EquipmentID, "a-")
		if line && (d.Incident.Scope != "group" || d.Incident.ScopeID != "line-a" || !strings.Contains(d.Title, "machines of line-a")) || !line && d.Incident.ScopeID == "line-a" {
			t.Errorf("%q: incident %+v", d.Title, d.Incident)
		}
	}
}

func TestFloodIsBounded(t *testing.T) {
	k, h := broker(t, 1), newHook(t)
	r := run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) {
		c.RoutingFile = routingTo(t, h.URL)
		c.Incidents = Incidents{Flood: Limit{Count: 5, Per: DefaultConfig().Incidents.Flood.Per}}
	})
	var list []*eventv1.Anomaly
	for i := range 40 {
		list = append(list, anomaly(fmt.Sprintf("m-%02d", i), "limit", 10, started, warning))
	}
	newProducer(t, k).anomalies(list...)
	eventually(t, "all are known", func() error {
		var out struct{ Alerts []listed }
		if r.ask(t, "", http.MethodGet, "/v1/alerts?state=suppressed&limit=1000", nil, &out); len(out.Alerts) != 35 {
			return fmt.Errorf("%d wait", len(out.Alerts))
		}
		return nil
	})
	eventually(t, "five pages, and word of the flood", func() error {
		got, note := h.told(), false
		for _, m := range h.messages() {
			for _, x := range m.Alerts {
				note = note || strings.Contains(x.Annotations["note"], "alarm flood: 5 pages within 10m0s")
			}
		}
		if len(got) != 5 || !note {
			return fmt.Errorf("told %q, of the flood: %t", got, note)
		}
		return nil
	})
	var rows struct{ Transitions []struct{ ID string } }
	r.ask(t, "", http.MethodGet, "/v1/transitions?limit=1000&transition=opened", nil, &rows)
	if len(rows.Transitions) != 40 {
		t.Errorf("%d openings in the journal", len(rows.Transitions))
	}
}
